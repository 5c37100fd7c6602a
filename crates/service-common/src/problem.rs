//! Error responses: problem documents, `application/problem+json`, RFC 9457.

use std::{error::Error, panic::AssertUnwindSafe};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use serde::Serialize;
use telemetry_common::{exception, sentry, trace_id};
use utoipa::ToSchema;

use crate::fault_injection::{FAULT_TYPE, FaultKind};

/// The value of `Retry-After` in a response 503, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A problem document. It contains no internal details; the trace id leads to them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Meaning of the status.
    title: &'static str,
    /// HTTP status code.
    status: u16,
    /// Description of the problem with this request.
    detail: String,
    /// Id of the trace of this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// Id of the Sentry event of a server error.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentry_event_id: Option<String>,
    #[serde(skip)]
    code: StatusCode,
}

impl Problem {
    /// Creates a problem with this status. `detail` is shown to the client, so it must contain no
    /// secrets.
    pub fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        let title = code.canonical_reason().unwrap_or("Error");
        Self {
            title,
            status: code.as_u16(),
            detail: detail.into(),
            trace_id: trace_id(),
            sentry_event_id: sentry::event_id().filter(|_| code.is_server_error()),
            code,
        }
    }

    /// Returns the problem for an unknown path.
    pub fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "this path does not exist")
    }

    /// Returns the problem for a method that the path does not support.
    pub fn unknown_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this path does not support this method",
        )
    }
}

/// Returns the response to a request that failed with `error`.
///
/// An error with status 5xx is logged here, once. `fault` is the kind of an injected fault. The
/// problem document contains the message of the error and not its causes.
pub fn respond<E: Error>(error: &E, status: StatusCode, fault: Option<FaultKind>) -> Response {
    if status.is_server_error() {
        exception!(
            error,
            "http.server.request.exception",
            error,
            { { FAULT_TYPE } = fault.map(FaultKind::name) },
            "the request failed"
        );
    }
    Problem::new(status, error.to_string()).into_response()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(&self)).into_response();
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        if self.code == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// Returns the response of `handling`, or a response 500 if it panics. The panic hook of telemetry logs and
/// counts the panic.
pub async fn catch_panic(handling: impl Future<Output = Response>) -> Response {
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    handled.unwrap_or_else(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed").into_response()
    })
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        extract::Request,
        middleware::{Next, from_fn},
        routing::get,
    };
    use telemetry_common::{semconv, testing};
    use tower::ServiceExt;

    use super::*;

    // proves: L36
    #[tokio::test]
    async fn a_panic_is_a_500_logged_once_and_counted() {
        async fn panics() {
            panic!("a secret text");
        }
        async fn catch(request: Request, next: Next) -> Response {
            catch_panic(next.run(request)).await
        }
        testing::install();
        let before = testing::sum_of(semconv::PANICS);
        let app = Router::new().route("/", get(panics)).layer(from_fn(catch));
        let (response, spans) =
            testing::spans_of(async { app.oneshot(Request::new(Body::empty())).await.unwrap() })
                .await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let body = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("a secret text"));
        assert_eq!(testing::logs_of(spans.trace_id()).len(), 1);
        assert!(
            testing::sum_of(semconv::PANICS) > before,
            "the panic is counted"
        );
    }
}
