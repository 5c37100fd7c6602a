//! The server of the sink: OTLP over HTTP and over gRPC, and Tempo's `GET /api/traces/{id}`, all on one
//! listener.

use std::{fmt::Debug, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
    routing::get,
    serve::Listener,
};
use otlp_viewer::receive;
use prost::Message;

use super::received::Received;

pub(super) async fn serve(listener: impl Listener<Addr: Debug>, received: Arc<Received>) {
    let otlp = receive::router(&received, usize::MAX);
    let tempo = Router::new()
        .route("/api/traces/{id}", get(trace))
        .route("/ready", get(|| async { "ready" }))
        .with_state(received);
    let result = axum::serve(listener, tempo.merge(otlp)).await;
    result.expect("axum serves a bound listener until it is dropped");
}

/// Returns the spans of a trace as Tempo does for `Accept: application/protobuf`, or 404.
async fn trace(State(received): State<Arc<Received>>, Path(id): Path<String>) -> impl IntoResponse {
    let trace = received.trace(&id);
    let known = !trace.resource_spans.is_empty();
    known
        .then(|| trace.encode_to_vec())
        .ok_or(StatusCode::NOT_FOUND)
}
