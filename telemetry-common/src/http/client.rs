//! Client spans, metrics and propagation for reqwest, and through it for generated clients.
//!
//! reqwest-tracing creates the span through the backend `ClientSpan`, because its default backend
//! records numbers as strings. Its context propagation supports OpenTelemetry only up to 0.32, so
//! the middleware `Propagation` injects the context.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client>.

use std::{
    ops::Deref,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use http::{Extensions, HeaderValue};
use opentelemetry::{Context, KeyValue, global, metrics::Histogram};
use opentelemetry_http::HeaderInjector;
use reqwest::{Request, Response, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};
use reqwest_tracing::{ReqwestOtelSpanBackend, TracingMiddleware};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    X_REQUEST_ID,
    method::{self, OTHER},
    protocol_version,
};
use crate::{RequestId, redact, scope, semconv};

/// Wraps `client` so that each request creates a client span, propagates the span's context and
/// records its duration.
///
/// A generated client sends its requests with the result, through [`execute`].
pub fn with_tracing(client: reqwest::Client) -> TracedClient {
    // Tracing must be the outer middleware: the propagated context is that of its span.
    let client = ClientBuilder::new(client)
        .with(TracingMiddleware::<ClientSpan>::new())
        .with(Propagation);
    TracedClient(client.build())
}

/// A client with the middlewares of [`with_tracing`], and no others. Neither of them fails.
#[derive(Clone, Debug)]
pub struct TracedClient(ClientWithMiddleware);

impl Deref for TracedClient {
    type Target = ClientWithMiddleware;

    fn deref(&self) -> &ClientWithMiddleware {
        &self.0
    }
}

/// Sends the request of a generated client. `template` is the path with placeholders, such as
/// `/details/{book_id}`, and part of the span name; without it, the span name is only the method.
///
/// Returns the error of reqwest if no response arrived.
pub async fn execute(
    client: &TracedClient,
    request: Request,
    template: Option<&'static str>,
) -> reqwest::Result<Response> {
    let mut extensions = Extensions::new();
    if let Some(template) = template {
        extensions.insert(UrlTemplate(template));
    }
    client
        .execute_with_extensions(request, &mut extensions)
        .await
        .map_err(|error| match error {
            Error::Reqwest(error) => error,
            Error::Middleware(_) => unreachable!("neither middleware of `TracedClient` fails"),
        })
}

/// A request extension: the path with placeholders, such as `/details/{book_id}`. It is recorded as
/// `url.template` and is part of the span name.
#[derive(Clone, Copy, Debug)]
pub struct UrlTemplate(pub &'static str);

/// A request extension that holds the request in flight. It is an `Arc` because extensions must be
/// `Clone`.
#[derive(Clone)]
struct Call(Arc<Mutex<InFlight>>);

/// A request, from its start until its response, its error or its cancellation by the caller.
struct InFlight {
    span: Span,
    started: Instant,
    attributes: Vec<KeyValue>,
    ended: bool,
}

impl Drop for InFlight {
    /// Records the duration. Cancellation by the caller is not an error, so the span only gets the
    /// attribute `telemetry_common.cancelled`.
    fn drop(&mut self) {
        if !self.ended {
            self.span.set_attribute(semconv::CANCELLED, true);
        }
        DURATION.record(self.started.elapsed().as_secs_f64(), &self.attributes);
    }
}

struct ClientSpan;

impl ReqwestOtelSpanBackend for ClientSpan {
    fn on_request_start(request: &Request, extensions: &mut Extensions) -> Span {
        let template = extensions.get::<UrlTemplate>().map(|template| template.0);
        let (original, url) = (request.method().as_str(), request.url());
        let method = method::known(original);
        // The convention requires HTTP in the span name if the method is not known.
        let name_prefix = if method == OTHER { "HTTP" } else { method };
        let (host, port) = (url.host_str(), url.port_or_known_default().map(i64::from));
        let mut attributes = vec![KeyValue::new(semconv::HTTP_REQUEST_METHOD, method)];
        attributes.extend(host.map(|host| KeyValue::new(semconv::SERVER_ADDRESS, host.to_owned())));
        attributes.extend(port.map(|port| KeyValue::new(semconv::SERVER_PORT, port)));
        attributes.extend(template.map(|path| KeyValue::new(semconv::URL_TEMPLATE, path)));
        let span = info_span!(
            "http.client",
            otel.kind = "client",
            otel.name = template.map_or_else(
                || name_prefix.to_owned(),
                |path| format!("{name_prefix} {path}"),
            ),
            otel.status_code = Empty,
            { semconv::HTTP_REQUEST_METHOD } = method,
            { semconv::HTTP_REQUEST_METHOD_ORIGINAL } = (method == OTHER).then_some(original),
            { semconv::URL_FULL } = recordable(url).as_str(),
            { semconv::URL_TEMPLATE } = template,
            { semconv::SERVER_ADDRESS } = host,
            { semconv::SERVER_PORT } = port,
            { semconv::HTTP_RESPONSE_STATUS_CODE } = Empty,
            { semconv::NETWORK_PROTOCOL_VERSION } = Empty,
            { semconv::NETWORK_PEER_ADDRESS } = Empty,
            { semconv::NETWORK_PEER_PORT } = Empty,
            { semconv::ERROR_TYPE } = Empty,
        );
        extensions.insert(Call(Arc::new(Mutex::new(InFlight {
            span: span.clone(),
            started: Instant::now(),
            attributes,
            ended: false,
        }))));
        span
    }

    fn on_request_end(
        span: &Span,
        outcome: &reqwest_middleware::Result<Response>,
        extensions: &mut Extensions,
    ) {
        let response = outcome.as_ref().ok();
        let status = response.map(|response| i64::from(response.status().as_u16()));
        let protocol = response.map(|response| protocol_version(response.version()));
        span.record(semconv::HTTP_RESPONSE_STATUS_CODE, status);
        span.record(semconv::NETWORK_PROTOCOL_VERSION, protocol);
        if let Some(peer) = response.and_then(Response::remote_addr) {
            span.record(semconv::NETWORK_PEER_ADDRESS, peer.ip().to_string());
            span.record(semconv::NETWORK_PEER_PORT, i64::from(peer.port()));
        }
        let failure = failure_of(outcome);
        if let Some(failure) = &failure {
            span.record(semconv::ERROR_TYPE, failure);
            span.record("otel.status_code", "ERROR");
        }
        if let Some(Call(in_flight)) = extensions.remove::<Call>() {
            let mut in_flight = in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            in_flight.ended = true;
            let status = status.map(|code| KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, code));
            let failure = failure.map(|failure| KeyValue::new(semconv::ERROR_TYPE, failure));
            let protocol =
                protocol.map(|version| KeyValue::new(semconv::NETWORK_PROTOCOL_VERSION, version));
            let attributes = status.into_iter().chain(failure).chain(protocol);
            in_flight.attributes.extend(attributes);
        }
    }
}

/// Returns `error.type`: the status code of a 4xx or 5xx response, or the reason why there is no
/// response. `None` for every other response.
fn failure_of(outcome: &reqwest_middleware::Result<Response>) -> Option<String> {
    match outcome {
        Ok(response) => {
            let status = response.status();
            (status.is_client_error() || status.is_server_error())
                .then(|| status.as_str().to_owned())
        }
        // A connect timeout is both. It counts as a timeout, because the caller configured it.
        Err(Error::Reqwest(error)) if error.is_timeout() => Some("timeout".to_owned()),
        Err(Error::Reqwest(error)) if error.is_connect() => Some("connect".to_owned()),
        Err(_) => Some("_OTHER".to_owned()),
    }
}

/// Returns the URL for `url.full`: without credentials, and with secrets in its query replaced.
fn recordable(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only if the kind of URL cannot have credentials. Then there is nothing to remove.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let query = url.query().map(|query| redact::query(query).into_owned());
    url.set_query(query.as_deref());
    url
}

/// The middleware that injects the context of the client span, and the current [`RequestId`], into
/// the headers of the request.
struct Propagation;

#[async_trait]
impl Middleware for Propagation {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(
                &Context::current(),
                &mut HeaderInjector(request.headers_mut()),
            );
        });
        if let Some(id) = RequestId::current() {
            request
                .headers_mut()
                .insert(X_REQUEST_ID, HeaderValue::from(&id));
        }
        next.run(request, extensions).await
    }
}

/// Created at the first request, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::meter()
        .f64_histogram(semconv::HTTP_CLIENT_REQUEST_DURATION)
        .with_unit("s")
        .with_description("Duration of HTTP client requests")
        .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
        .build()
});
