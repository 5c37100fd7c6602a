//! The server of the sink: OTLP over HTTP (`/v1/traces` …, protobuf) and over gRPC, and Tempo's
//! `GET /api/traces/{id}`, all on one listener.

use std::{fmt::Debug, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
    serve::Listener,
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tonic::{Request, Response, Status, codec::CompressionEncoding::Gzip, service::Routes};
use tower_http::decompression::RequestDecompressionLayer;

use super::received::Received;

pub(super) async fn serve(listener: impl Listener<Addr: Debug>, received: Arc<Received>) {
    let grpc = |received: &Arc<Received>| Grpc(Arc::clone(received));
    let grpc = Routes::new(TraceServiceServer::new(grpc(&received)).accept_compressed(Gzip))
        .add_service(LogsServiceServer::new(grpc(&received)).accept_compressed(Gzip))
        .add_service(MetricsServiceServer::new(grpc(&received)).accept_compressed(Gzip))
        .into_axum_router();
    let http = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .route("/v1/metrics", post(metrics))
        .route("/api/traces/{id}", get(trace))
        .route("/ready", get(|| async { "ready" }))
        .layer(RequestDecompressionLayer::new())
        .layer(DefaultBodyLimit::disable())
        .with_state(received);
    let result = axum::serve(listener, http.merge(grpc)).await;
    result.expect("axum serves a bound listener until it is dropped");
}

async fn traces(State(received): State<Arc<Received>>, body: Bytes) -> impl IntoResponse {
    let request = ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok::<_, StatusCode>(received.take_traces(request).encode_to_vec())
}

async fn logs(State(received): State<Arc<Received>>, body: Bytes) -> impl IntoResponse {
    let request = ExportLogsServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok::<_, StatusCode>(received.take_logs(request).encode_to_vec())
}

async fn metrics(State(received): State<Arc<Received>>, body: Bytes) -> impl IntoResponse {
    let request = ExportMetricsServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok::<_, StatusCode>(received.take_metrics(request).encode_to_vec())
}

/// Returns the spans of a trace as Tempo does for `Accept: application/protobuf`, or 404.
async fn trace(State(received): State<Arc<Received>>, Path(id): Path<String>) -> impl IntoResponse {
    let trace = received.trace(&id);
    let known = !trace.resource_spans.is_empty();
    known
        .then(|| trace.encode_to_vec())
        .ok_or(StatusCode::NOT_FOUND)
}

struct Grpc(Arc<Received>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(self.0.take_traces(request.into_inner())))
    }
}

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        Ok(Response::new(self.0.take_logs(request.into_inner())))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Ok(Response::new(self.0.take_metrics(request.into_inner())))
    }
}
