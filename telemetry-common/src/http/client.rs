//! Client spans, metrics and propagation for reqwest, and through it for generated clients.
//!
//! reqwest-tracing makes the span through a backend of ours: its default one writes numbers as
//! text. Its propagation stops at OpenTelemetry 0.32, so `Propagation` does that part.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client>.

use std::{
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

/// Wraps `client` so that each request is a span whose context travels with it.
///
/// A generated client takes the result as its inner type and calls [`execute`] from its hook.
pub fn with_tracing(client: reqwest::Client) -> ClientWithMiddleware {
    // In this order: the propagated context is that of the span.
    ClientBuilder::new(client)
        .with(TracingMiddleware::<ClientSpan>::new())
        .with(Propagation)
        .build()
}

/// Sends a generated client's request; `template` is its path before the ids were filled in.
pub async fn execute(
    client: &ClientWithMiddleware,
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
            Error::Middleware(_) => unreachable!("neither middleware of `with_tracing` fails"),
        })
}

/// A path with placeholders, `/details/{book_id}`: a request's extension that names its span.
#[derive(Clone, Copy, Debug)]
pub struct UrlTemplate(pub &'static str);

/// A request until it is answered, or dropped because its caller gave it up.
///
/// Extensions want what can be cloned; the one inside is dropped once.
#[derive(Clone)]
struct Call(Arc<Mutex<InFlight>>);

struct InFlight {
    span: Span,
    started: Instant,
    labels: Vec<KeyValue>,
    ended: bool,
}

impl Drop for InFlight {
    /// Measures. To be given up by the caller is no error, says the convention; the span tells it.
    fn drop(&mut self) {
        if !self.ended {
            self.span.set_attribute(semconv::CANCELLED, true);
        }
        DURATION.record(self.started.elapsed().as_secs_f64(), &self.labels);
    }
}

struct ClientSpan;

impl ReqwestOtelSpanBackend for ClientSpan {
    fn on_request_start(request: &Request, extensions: &mut Extensions) -> Span {
        let template = extensions.get::<UrlTemplate>().map(|template| template.0);
        let (original, url) = (request.method().as_str(), request.url());
        let method = method::known(original);
        // The convention's word in a span's name for a method that is not known.
        let verb = if method == OTHER { "HTTP" } else { method };
        let (host, port) = (url.host_str(), url.port_or_known_default().map(i64::from));
        let mut labels = vec![KeyValue::new(semconv::HTTP_REQUEST_METHOD, method)];
        labels.extend(host.map(|host| KeyValue::new(semconv::SERVER_ADDRESS, host.to_owned())));
        labels.extend(port.map(|port| KeyValue::new(semconv::SERVER_PORT, port)));
        labels.extend(template.map(|path| KeyValue::new(semconv::URL_TEMPLATE, path)));
        let span = info_span!(
            "http.client",
            otel.kind = "client",
            otel.name = template.map_or_else(|| verb.to_owned(), |path| format!("{verb} {path}")),
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
            labels,
            ended: false,
        }))));
        span
    }

    fn on_request_end(
        span: &Span,
        outcome: &reqwest_middleware::Result<Response>,
        extensions: &mut Extensions,
    ) {
        let status = outcome
            .as_ref()
            .ok()
            .map(|response| i64::from(response.status().as_u16()));
        if let Some(status) = status {
            span.record(semconv::HTTP_RESPONSE_STATUS_CODE, status);
        }
        let protocol = outcome
            .as_ref()
            .ok()
            .map(|response| protocol_version(response.version()));
        span.record(semconv::NETWORK_PROTOCOL_VERSION, protocol);
        if let Some(peer) = outcome.as_ref().ok().and_then(Response::remote_addr) {
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
            let labels = status.into_iter().chain(failure).chain(protocol);
            in_flight.labels.extend(labels);
        }
    }
}

/// `error.type`: the status from 400 up, else what kept the answer from coming.
fn failure_of(outcome: &reqwest_middleware::Result<Response>) -> Option<String> {
    match outcome {
        Ok(response) => {
            let status = response.status();
            (status.is_client_error() || status.is_server_error())
                .then(|| status.as_str().to_owned())
        }
        // A connect that takes too long is both; the timeout is what the caller set.
        Err(Error::Reqwest(error)) if error.is_timeout() => Some("timeout".to_owned()),
        Err(Error::Reqwest(error)) if error.is_connect() => Some("connect".to_owned()),
        Err(_) => Some("_OTHER".to_owned()),
    }
}

/// A URL as it may be recorded: without credentials, and without secrets in its query.
fn recordable(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only where a URL can hold no credentials, and then there are none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let query = url.query().map(|query| redact::query(query).into_owned());
    url.set_query(query.as_deref());
    url
}

/// Writes the current context, the client span's, into the request's headers, and the id of the
/// request that caused this one.
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

/// First touched by the first request, after `init`.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::meter()
        .f64_histogram(semconv::HTTP_CLIENT_REQUEST_DURATION)
        .with_unit("s")
        .with_description("Duration of HTTP client requests")
        .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
        .build()
});
