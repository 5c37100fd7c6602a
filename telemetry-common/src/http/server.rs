//! Server spans and request metrics for axum.
//!
//! The span is axum-tracing-opentelemetry's; [`observe`] stands inside it and adds what the
//! convention asks for and the crate leaves out. Outermost first, the layers are
//! [`identify`] → [`span`] → [`observe`] → `CatchPanicLayer` → routes: a panic becomes a 500 on
//! its span, and the request id is known to all below.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>.

use std::{borrow::Cow, net::SocketAddr, sync::LazyLock, thread, time::Instant};

use axum::{
    body::HttpBody as _,
    extract::{ConnectInfo, MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
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

/// Gives the request an id, the caller's where it is acceptable, and answers with it.
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

/// One request's work; a failure's answer names the event it was reported as.
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

/// The server span: continues the caller's trace or starts one.
pub fn span() -> OtelAxumLayer {
    OtelAxumLayer::default()
}

/// Completes the server span, measures the request, logs it and answers with `traceparent`.
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

/// One request until it is answered, or dropped because its client left.
struct Exchange {
    span: Span,
    started: Instant,
    /// What both metrics are told: method, scheme.
    method: &'static str,
    route: Option<MatchedPath>,
    protocol: &'static str,
    status: Option<StatusCode>,
    /// Bytes of the bodies, where they are known before they are sent.
    request_size: Option<u64>,
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
        METRICS.active.add(1, &exchange.identity());
        exchange
    }

    /// Tells the events of this request where they happened.
    #[cfg(feature = "sentry")]
    fn tag(&self) {
        crate::sentry::tag(semconv::HTTP_REQUEST_METHOD, self.method);
        if let Some(route) = self.route() {
            crate::sentry::tag(semconv::HTTP_ROUTE, route);
            crate::sentry::name_work(format_args!("{} {route}", self.method));
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
            name: "telemetry.http.server.answered",
            {
                { semconv::HTTP_REQUEST_METHOD } = self.method,
                { semconv::HTTP_ROUTE } = self.route(),
                { semconv::HTTP_RESPONSE_STATUS_CODE } = i64::from(status.as_u16()),
                { semconv::DURATION } = self.started.elapsed().as_secs_f64(),
            },
            "{} {} answered {}",
            self.method,
            self.route().unwrap_or("of no route"),
            status.as_u16(),
        );
    }

    /// The status from 500 up, or that there was none.
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

    /// The attributes known before the answer is.
    fn identity(&self) -> [KeyValue; 2] {
        [
            KeyValue::new(semconv::HTTP_REQUEST_METHOD, self.method),
            KeyValue::new(semconv::URL_SCHEME, "http"),
        ]
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let identity = self.identity();
        METRICS.active.add(-1, &identity);
        let mut labels = Vec::with_capacity(6);
        labels.extend(identity);
        labels.push(KeyValue::new(
            semconv::NETWORK_PROTOCOL_VERSION,
            self.protocol,
        ));
        labels.extend(
            self.route()
                .map(|route| KeyValue::new(semconv::HTTP_ROUTE, route.to_owned())),
        );
        if let Some(status) = self.status {
            let code = i64::from(status.as_u16());
            labels.push(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, code));
        } else if thread::panicking() {
            // Nothing below caught the panic; the panic hook has logged it.
            failure::mark(&self.span, PANIC, "the handler panicked");
        } else {
            failure::mark(&self.span, CANCELLED, "the client closed the connection");
            let (method, route) = (self.method, self.route().unwrap_or("of no route"));
            self.span.in_scope(|| {
                info!(
                    name: "telemetry.http.server.cancelled",
                    "{method} {route} was given up by its client"
                );
            });
        }
        labels.extend(
            self.error_type()
                .map(|name| KeyValue::new(semconv::ERROR_TYPE, name)),
        );
        METRICS
            .duration
            .record(self.started.elapsed().as_secs_f64(), &labels);
        if let Some(size) = self.request_size {
            METRICS.request_size.record(size, &labels);
        }
        if let Some(size) = self.response_size {
            METRICS.response_size.record(size, &labels);
        }
    }
}

/// `error.type` of a request whose client closed the connection before the response.
const CANCELLED: &str = "cancelled";
/// `error.type` of a request whose handler panicked, where no layer makes a response of it.
const PANIC: &str = "panic";
struct Metrics {
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
    request_size: Histogram<u64>,
    response_size: Histogram<u64>,
}

/// First touched by the first request, after `init`.
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
            .with_description("HTTP server requests in progress")
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
