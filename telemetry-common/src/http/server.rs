//! Server spans and request metrics for axum.
//!
//! axum-tracing-opentelemetry creates the server span. [`observe`] adds the attributes that the
//! convention requires and that crate does not set.
//!
//! [`with_tracing`] adds all layers to a router. Their order, outermost first, is [`identify`] → [`span`] → [`observe`] →
//! `CatchPanicLayer` → routes. In this order a panic becomes a response with status 500 on its
//! span, and all inner layers and handlers have the request id.
//!
//! `url.scheme` and `client.address` describe the immediate peer. `Forwarded` and `X-Forwarded-*`
//! are not read, because any client can send them.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>.

use std::{borrow::Cow, net::SocketAddr, sync::LazyLock, thread, time::Instant};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{ConnectInfo, MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::{Next, from_fn},
    response::Response,
};
use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, UpDownCounter},
    trace::TraceContextExt,
};
use tracing::{Span, info};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    X_REQUEST_ID,
    method::{self, OTHER},
    protocol_version,
};
use crate::{RequestId, failure, redact, scope, semconv, traceparent};

#[cfg(feature = "sentry")]
const X_SENTRY_EVENT_ID: HeaderName = HeaderName::from_static("x-sentry-event-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Adds the layers of this module to a router. The routes of the router must already be added.
///
/// ```
/// use axum::{Router, routing::get};
/// use telemetry_common::http::server;
///
/// let router: Router = Router::new().route("/hello", get(async || "hello"));
/// let router = server::with_tracing(router);
/// ```
pub fn with_tracing<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .layer(from_fn(observe))
        .layer(span())
        .layer(from_fn(identify))
}

/// Sets the [`RequestId`] of the request, and returns it in the response header `x-request-id`.
///
/// The id is the request header `x-request-id` if [`RequestId::parse`] accepts its value, else a
/// new id.
pub async fn identify(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(RequestId::parse)
        .unwrap_or_else(RequestId::generate);
    let mut response = isolated(id.clone().scope(next.run(request))).await;
    response
        .headers_mut()
        .insert(X_REQUEST_ID, HeaderValue::from(&id));
    response
}

/// Runs `work` in a Sentry scope of its own. A 5xx response gets the id of the Sentry event of its
/// failure in the header `x-sentry-event-id`.
#[cfg(feature = "sentry")]
async fn isolated(work: impl Future<Output = Response>) -> Response {
    crate::sentry::isolate(async {
        let mut response = work.await;
        let id = crate::sentry::event_id().filter(|_| response.status().is_server_error());
        if let Some(id) = id.and_then(|id| HeaderValue::try_from(id).ok()) {
            response.headers_mut().insert(X_SENTRY_EVENT_ID, id);
        }
        response
    })
    .await
}

#[cfg(not(feature = "sentry"))]
async fn isolated(work: impl Future<Output = Response>) -> Response {
    work.await
}

/// Returns the layer that creates the server span, which continues the caller's trace or starts a
/// new one.
pub fn span() -> OtelAxumLayer {
    OtelAxumLayer::default()
}

/// Completes the attributes of the server span, records the HTTP server metrics, logs the request,
/// and returns the span context in the response header `traceparent`.
pub async fn observe(request: Request, next: Next) -> Response {
    let exchange = Exchange::begin(&request);
    #[cfg(feature = "sentry")]
    exchange.tag();
    let mut response = next.run(request).await;
    if let Some(value) = traceparent().and_then(|value| HeaderValue::try_from(value).ok()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    exchange.finish(&response);
    response
}

/// A request, from its arrival until its response, or until it is dropped because its client closed
/// the connection. The metrics are recorded on drop.
struct Exchange {
    span: Span,
    started: Instant,
    /// A known method, or `_OTHER`.
    method: &'static str,
    route: Option<MatchedPath>,
    protocol: &'static str,
    status: Option<StatusCode>,
    /// Size of the request body in bytes, if it is known in advance.
    request_size: Option<u64>,
    /// Size of the response body in bytes, if it is known in advance.
    response_size: Option<u64>,
}

impl Exchange {
    fn begin(request: &Request) -> Self {
        let exchange = Self {
            span: Span::current(),
            started: Instant::now(),
            method: method::known(request.method().as_str()),
            route: request.extensions().get::<MatchedPath>().cloned(),
            protocol: protocol_version(request.version()),
            status: None,
            request_size: request.body().size_hint().exact(),
            response_size: None,
        };
        exchange.complete_span(request);
        METRICS.active.add(1, &exchange.request_attributes());
        exchange
    }

    /// Tags the Sentry events of this request with its method and route.
    #[cfg(feature = "sentry")]
    fn tag(&self) {
        crate::sentry::tag(semconv::HTTP_REQUEST_METHOD, self.method);
        if let Some(route) = self.route() {
            crate::sentry::tag(semconv::HTTP_ROUTE, route);
            crate::sentry::set_transaction_name(format_args!("{} {route}", self.method));
        }
    }

    fn complete_span(&self, request: &Request) {
        let span = &self.span;
        span.set_attribute(semconv::URL_SCHEME, "http");
        if let Some(Cow::Owned(query)) = request.uri().query().map(redact::query) {
            span.set_attribute(semconv::URL_QUERY, query);
        }
        span.set_attribute(semconv::NETWORK_PROTOCOL_VERSION, self.protocol);
        if self.method == OTHER {
            span.set_attribute(semconv::HTTP_REQUEST_METHOD, OTHER);
            span.set_attribute(
                semconv::HTTP_REQUEST_METHOD_ORIGINAL,
                request.method().as_str().to_owned(),
            );
            let name = format!("HTTP {}", self.route().unwrap_or_default());
            span.context()
                .span()
                .update_name(name.trim_end().to_owned());
        }
        if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
            let address = peer.ip().to_string();
            span.set_attribute(semconv::CLIENT_ADDRESS, address.clone());
            span.set_attribute(semconv::NETWORK_PEER_ADDRESS, address);
            span.set_attribute(semconv::NETWORK_PEER_PORT, i64::from(peer.port()));
        }
        if let Some(id) = RequestId::current() {
            span.set_attribute(semconv::REQUEST_ID, id.to_string());
        }
    }

    fn finish(mut self, response: &Response) {
        let status = response.status();
        self.status = Some(status);
        self.response_size = response.body().size_hint().exact();
        if let Some(error_type) = self.error_type() {
            self.span.set_attribute(semconv::ERROR_TYPE, error_type);
        }
        info!(
            name: "telemetry_common.http.server.responded",
            {
                { semconv::HTTP_REQUEST_METHOD } = self.method,
                { semconv::HTTP_ROUTE } = self.route(),
                { semconv::HTTP_RESPONSE_STATUS_CODE } = i64::from(status.as_u16()),
                { semconv::DURATION } = self.started.elapsed().as_secs_f64(),
            },
            "{} {} responded with {}",
            self.method,
            self.route().unwrap_or(NO_ROUTE),
            status.as_u16(),
        );
    }

    /// Returns `error.type`: the status code of a 5xx response, or the reason why there is no
    /// response. `None` for every other response.
    fn error_type(&self) -> Option<String> {
        match self.status {
            None if thread::panicking() => Some(PANIC.to_owned()),
            None => Some(CANCELLED.to_owned()),
            Some(status) if status.is_server_error() => Some(status.as_str().to_owned()),
            Some(_) => None,
        }
    }

    fn route(&self) -> Option<&str> {
        self.route.as_ref().map(MatchedPath::as_str)
    }

    /// Returns the metric attributes that are known when the request arrives.
    fn request_attributes(&self) -> [KeyValue; 2] {
        [
            KeyValue::new(semconv::HTTP_REQUEST_METHOD, self.method),
            KeyValue::new(semconv::URL_SCHEME, "http"),
        ]
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let request_attributes = self.request_attributes();
        METRICS.active.add(-1, &request_attributes);
        let mut attributes = Vec::with_capacity(6);
        attributes.extend(request_attributes);
        attributes.push(KeyValue::new(
            semconv::NETWORK_PROTOCOL_VERSION,
            self.protocol,
        ));
        attributes.extend(
            self.route()
                .map(|route| KeyValue::new(semconv::HTTP_ROUTE, route.to_owned())),
        );
        if let Some(status) = self.status {
            let code = i64::from(status.as_u16());
            attributes.push(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, code));
        } else if thread::panicking() {
            // No inner layer caught the panic. The panic hook has logged it.
            failure::mark(&self.span, PANIC, "the handler panicked");
        } else {
            failure::mark(&self.span, CANCELLED, "the client closed the connection");
            let (method, route) = (self.method, self.route().unwrap_or(NO_ROUTE));
            self.span.in_scope(|| {
                info!(
                    name: "telemetry_common.http.server.cancelled",
                    "{method} {route} was cancelled: the client closed the connection"
                );
            });
        }
        attributes.extend(
            self.error_type()
                .map(|name| KeyValue::new(semconv::ERROR_TYPE, name)),
        );
        METRICS
            .duration
            .record(self.started.elapsed().as_secs_f64(), &attributes);
        if let Some(size) = self.request_size {
            METRICS.request_size.record(size, &attributes);
        }
        if let Some(size) = self.response_size {
            METRICS.response_size.record(size, &attributes);
        }
    }
}

/// `error.type` of a request whose client closed the connection before the response.
const CANCELLED: &str = "cancelled";
/// `error.type` of a request whose handler panicked, if no layer turned the panic into a response.
const PANIC: &str = "panic";
/// The replacement for the route in log messages.
const NO_ROUTE: &str = "(no matching route)";

struct Metrics {
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
    request_size: Histogram<u64>,
    response_size: Histogram<u64>,
}

/// Created at the first request, because instruments must be created after telemetry is installed.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = scope::meter();
    let size = |name, description| {
        let size = meter.u64_histogram(name).with_unit("By");
        size.with_description(description)
            .with_boundaries(semconv::SIZE_BOUNDARIES.to_vec())
            .build()
    };
    Metrics {
        duration: meter
            .f64_histogram(semconv::HTTP_SERVER_REQUEST_DURATION)
            .with_unit("s")
            .with_description("Duration of HTTP server requests")
            .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
            .build(),
        active: meter
            .i64_up_down_counter(semconv::HTTP_SERVER_ACTIVE_REQUESTS)
            .with_unit("{request}")
            .with_description("Number of HTTP server requests in progress")
            .build(),
        request_size: size(
            semconv::HTTP_SERVER_REQUEST_BODY_SIZE,
            "Size of HTTP server request bodies",
        ),
        response_size: size(
            semconv::HTTP_SERVER_RESPONSE_BODY_SIZE,
            "Size of HTTP server response bodies",
        ),
    }
});
