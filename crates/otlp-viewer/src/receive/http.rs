//! OTLP over HTTP.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tower_http::decompression::RequestDecompressionLayer;

use super::Receive;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A body, or why it could not be read.
type Received = Result<Bytes, BytesRejection>;

pub(super) fn router<R: Receive>(receiver: Arc<R>, limit: usize) -> Router {
    Router::new()
        .route("/v1/traces", post(traces::<R>))
        .route("/v1/logs", post(logs::<R>))
        .route("/v1/metrics", post(metrics::<R>))
        .layer(DefaultBodyLimit::max(limit))
        .layer(RequestDecompressionLayer::new())
        .with_state(receiver)
}

async fn traces<R: Receive>(
    State(receiver): State<Arc<R>>,
    headers: HeaderMap,
    body: Received,
) -> Response {
    take(&headers, body, |request| receiver.traces(request))
}

async fn logs<R: Receive>(
    State(receiver): State<Arc<R>>,
    headers: HeaderMap,
    body: Received,
) -> Response {
    take(&headers, body, |request| receiver.logs(request))
}

async fn metrics<R: Receive>(
    State(receiver): State<Arc<R>>,
    headers: HeaderMap,
    body: Received,
) -> Response {
    take(&headers, body, |request| receiver.metrics(request))
}

/// Decodes a body, passes it to `take`, and encodes the response as the body was encoded.
fn take<Q, A>(headers: &HeaderMap, body: Received, take: impl FnOnce(Q) -> A) -> Response
where
    Q: Message + Default + DeserializeOwned,
    A: Message + Serialize,
{
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    match Encoding::of(headers) {
        Some(Encoding::Protobuf) => match Q::decode(body) {
            Ok(request) => {
                let response = take(request).encode_to_vec();
                ([(CONTENT_TYPE, PROTOBUF)], response).into_response()
            }
            Err(error) => invalid("protobuf", &error.to_string()),
        },
        Some(Encoding::Json) => match serde_json::from_slice(&body) {
            Ok(request) => Json(take(request)).into_response(),
            Err(error) => invalid("JSON", &error.to_string()),
        },
        None => {
            let expected = format!("the content type must be {PROTOBUF} or {JSON}\n");
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, expected).into_response()
        }
    }
}

/// How a body is encoded.
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next()?.trim();
        if essence.eq_ignore_ascii_case(PROTOBUF) {
            Some(Self::Protobuf)
        } else {
            essence.eq_ignore_ascii_case(JSON).then_some(Self::Json)
        }
    }
}

fn invalid(format: &str, reason: &str) -> Response {
    let message = format!("the body is no OTLP {format}: {reason}\n");
    (StatusCode::BAD_REQUEST, message).into_response()
}
