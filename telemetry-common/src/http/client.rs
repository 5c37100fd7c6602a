//! Client spans, metrics and propagation for reqwest, and through it for generated clients.
//!
//! The exchange ends with the last frame of the response body, when the caller has read it. Its end is
//! logged: at level WARN if the status code is 400 or higher or if there is no complete response, else
//! at INFO. The failure itself is the caller's to log, where it is handled.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client>.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    error::Error as StdError,
    future::poll_fn,
    iter,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    pin::pin,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use http::{Extensions, HeaderName, StatusCode, response::Parts};
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    metrics::Histogram,
    trace::{SpanKind, SpanRef},
};
use reqwest::{Body, Request, Response, ResponseBuilderExt, Url, redirect::Policy};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};
use serde_json::json;
use tracing::{info, warn};

use super::{
    exchange::{End, Exchange, Outcome, PANIC, Running},
    method::{self, OTHER},
    outgoing, protocol_version,
};
use crate::{
    current::Current,
    edge::{self, Attributes},
    redact, scope, semconv,
};

/// Wraps `client` so that each request creates a client span, propagates the span's context and
/// records its duration.
///
/// Every host receives the trace context. Only `trusted` hosts receive the baggage and the
/// [`RequestId`](crate::RequestId). reqwest sends these headers to the target of a redirect as well,
/// so build the client with [`TrustedHosts::redirect_policy`], or with a policy that follows none. A
/// generated client sends its requests with the result, through [`execute`].
///
/// ```
/// use telemetry_common::http::client::{self, TrustedHosts};
///
/// # fn main() -> reqwest::Result<()> {
/// let trusted = TrustedHosts::only(["backend"]);
/// let http = reqwest::Client::builder().redirect(trusted.redirect_policy());
/// let http = client::with_tracing(http.build()?, trusted);
/// let request = http.get("http://backend:8001/details");
/// # Ok(())
/// # }
/// ```
pub fn with_tracing(client: reqwest::Client, trusted: TrustedHosts) -> TracedClient {
    TracedClient::new(client, trusted, Arc::default())
}

/// The maximum number of redirects, as in reqwest's own policy.
const MAX_REDIRECTS: usize = 10;

/// The hosts that receive the baggage and the request id, which may be about users.
#[derive(Clone, Debug)]
pub struct TrustedHosts(Option<Arc<[String]>>);

impl TrustedHosts {
    /// Trusts no host.
    pub fn none() -> Self {
        Self::only::<&str>([])
    }

    /// Trusts these hosts: names or addresses as in a URL, without port.
    pub fn only<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> Self {
        Self(Some(hosts.into_iter().map(Into::into).collect()))
    }

    /// Trusts every host. Use it only if all requests stay inside your system.
    pub fn all() -> Self {
        Self(None)
    }

    /// Returns a policy that follows up to 10 redirects, but none from a trusted host to another host.
    /// The caller then receives the redirect as the response.
    pub fn redirect_policy(&self) -> Policy {
        let trusted = self.clone();
        Policy::custom(move |attempt| {
            let first = attempt.previous().first();
            let leaves = first.is_some_and(|first| trusted.contains(first))
                && !trusted.contains(attempt.url());
            match attempt.previous().len() {
                _ if leaves => attempt.stop(),
                ..=MAX_REDIRECTS => attempt.follow(),
                _ => attempt.error("too many redirects"),
            }
        })
    }

    fn contains(&self, url: &Url) -> bool {
        let Some(hosts) = &self.0 else { return true };
        let host = url.host_str();
        host.is_some_and(|host| hosts.iter().any(|it| it.eq_ignore_ascii_case(host)))
    }
}

/// A client with the middleware of [`with_tracing`], and no others. The middleware never fails.
#[derive(Clone, Debug)]
pub struct TracedClient {
    with_middleware: ClientWithMiddleware,
    client: reqwest::Client,
    trusted: TrustedHosts,
}

impl TracedClient {
    fn new(client: reqwest::Client, trusted: TrustedHosts, headers: Arc<[HeaderName]>) -> Self {
        let middleware = Tracing {
            trusted: trusted.clone(),
            headers,
        };
        let with_middleware = ClientBuilder::new(client.clone()).with(middleware);
        Self {
            with_middleware: with_middleware.build(),
            client,
            trusted,
        }
    }

    /// Records these headers of responses on spans and log records. By default, none is recorded,
    /// because headers may contain secrets.
    #[must_use]
    pub fn record_headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self::new(self.client, self.trusted, names.into_iter().collect())
    }
}

impl Deref for TracedClient {
    type Target = ClientWithMiddleware;

    fn deref(&self) -> &ClientWithMiddleware {
        &self.with_middleware
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
            Error::Middleware(_) => unreachable!("the middleware of `TracedClient` does not fail"),
        })
}

/// A request extension: the path with placeholders, such as `/details/{book_id}`. It is recorded as
/// `url.template` and is part of the span name.
#[derive(Clone, Copy, Debug)]
pub struct UrlTemplate(pub &'static str);

/// The middleware that observes the requests.
struct Tracing {
    trusted: TrustedHosts,
    /// The recorded headers of responses.
    headers: Arc<[HeaderName]>,
}

/// A response extension: the address of the server.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

#[async_trait]
impl Middleware for Tracing {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let template = extensions.get::<UrlTemplate>().map(|template| template.0);
        let mut running = Call::start(&request, template, Arc::clone(&self.headers));
        let is_trusted = self.trusted.contains(request.url());
        running.run(|_| outgoing::add_headers(request.headers_mut(), is_trusted));
        let mut response = pin!(next.run(request, extensions));
        let response = poll_fn(|context| running.run(|_| response.as_mut().poll(context))).await;
        match response {
            Ok(mut response) => {
                if let Some(peer) = response.remote_addr() {
                    response.extensions_mut().insert(Peer(peer));
                }
                // The conversion from `http::Response` reads the URL from an extension.
                let url = http::Response::builder().url(response.url().clone());
                let response = running.run(|state| state.respond(response.into()));
                let mut response = running.observe::<Body>(response);
                if let Ok(url) = url.body(()) {
                    let url = url.into_parts().0.extensions;
                    response.extensions_mut().extend(url);
                }
                Ok(response.map(Body::wrap).into())
            }
            Err(error) => {
                let cause: &(dyn StdError + 'static) = match &error {
                    Error::Reqwest(error) => error,
                    Error::Middleware(_) => &error,
                };
                running.run(|state| state.end(Outcome::Failed(cause)));
                Err(error)
            }
        }
    }
}

/// One request as a client records it.
struct Call {
    attributes: Attributes,
    method: &'static str,
    host: Arc<str>,
    port: Option<i64>,
    template: Option<&'static str>,
    /// The recorded headers of the response.
    headers: Arc<[HeaderName]>,
    received: BTreeMap<String, String>,
    peer: Option<IpAddr>,
    status: Option<StatusCode>,
    is_head: bool,
}

impl Call {
    fn start(
        request: &Request,
        template: Option<&'static str>,
        headers: Arc<[HeaderName]>,
    ) -> Running {
        let (original, url) = (request.method().as_str(), request.url());
        let method = method::known(original);
        let mut attributes = Attributes(Vec::with_capacity(7));
        attributes.add(semconv::HTTP_REQUEST_METHOD, method);
        let host: Arc<str> = url.host_str().unwrap_or_default().into();
        attributes.add(semconv::SERVER_ADDRESS, Arc::clone(&host));
        let port = url.port_or_known_default().map(i64::from);
        attributes.add_some(semconv::SERVER_PORT, port);
        attributes.add_some(semconv::URL_TEMPLATE, template);
        let describe = |all: &mut Attributes| {
            all.0.extend_from_slice(&attributes.0);
            let original = (method == OTHER).then(|| original.to_owned());
            all.add_some(semconv::HTTP_REQUEST_METHOD_ORIGINAL, original);
            all.add(semconv::URL_FULL, String::from(recordable(url)));
            method::span_name(method, template)
        };
        let edge = edge::start(Context::current(), SpanKind::Client, None, describe);
        let call = Self {
            attributes,
            method,
            host,
            port,
            template,
            headers,
            received: BTreeMap::new(),
            peer: None,
            status: None,
            is_head: original == "HEAD",
        };
        let current = Current::of_call(edge.context);
        Running::start(Box::new(call), edge.span, current)
    }

    /// Returns `error.type`: the status code of a 4xx or 5xx response, or the reason why there is no
    /// complete response. `None` for every other response, and if the caller cancelled.
    fn error_type(&self, outcome: Outcome<'_>) -> Option<Cow<'static, str>> {
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        match outcome {
            Outcome::Failed(error) => Some(kind_of(error).into()),
            Outcome::Panicked => Some(PANIC.into()),
            Outcome::Completed | Outcome::Cancelled => {
                let status = self.status.filter(is_error)?;
                Some(status.as_str().to_owned().into())
            }
        }
    }

    /// Records the allowed headers of the response.
    fn record_headers(&mut self, head: &Parts, span: &SpanRef<'_>) {
        for name in &*self.headers {
            let values = head.headers.get_all(name).iter();
            let values: Vec<_> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            if values.is_empty() {
                continue;
            }
            self.received.insert(name.to_string(), values.join(", "));
            let values = values.into_iter().map(StringValue::from).collect();
            let key = format!("http.response.header.{name}");
            span.set_attribute(KeyValue::new(key, Value::Array(Array::String(values))));
        }
    }

    fn log(&self, end: &End<'_>, error_type: Option<&str>) {
        let (method, host, path) = (self.method, &*self.host, self.template.unwrap_or_default());
        let status = self.status.map(|status| i64::from(status.as_u16()));
        let code = status.unwrap_or_default();
        let headers = (!self.received.is_empty()).then(|| json!(self.received).to_string());
        macro_rules! log {
            ($log:ident, $name:literal, $($message:tt)+) => {
                $log!(
                    name: $name,
                    {
                        subject = "vendor.response",
                        category = "http.response",
                        { semconv::HTTP_REQUEST_METHOD } = method,
                        { semconv::URL_TEMPLATE } = self.template,
                        { semconv::SERVER_ADDRESS } = host,
                        { semconv::SERVER_PORT } = self.port,
                        { semconv::NETWORK_PEER_ADDRESS } = self.peer.map(|peer| peer.to_string()),
                        { semconv::HTTP_RESPONSE_STATUS_CODE } = status,
                        { semconv::RESPONSE_HEADERS } = headers,
                        { semconv::DURATION } = end.duration.as_secs_f64(),
                        { semconv::ERROR_TYPE } = error_type,
                    },
                    $($message)+
                )
            };
        }
        match (end.outcome, error_type) {
            (Outcome::Completed, None) => log!(
                info,
                "telemetry_common.http.client.responded",
                "{method} {host}{path} responded with {code}"
            ),
            (Outcome::Cancelled, None) => log!(
                info,
                "telemetry_common.http.client.cancelled",
                "{method} {host}{path} was cancelled"
            ),
            (Outcome::Failed(_) | Outcome::Panicked, error_type) => log!(
                warn,
                "telemetry_common.http.client.failed",
                "{method} {host}{path} failed: {}",
                error_type.unwrap_or_default()
            ),
            (_, Some(_)) => log!(
                warn,
                "telemetry_common.http.client.rejected",
                "{method} {host}{path} responded with {code}"
            ),
        }
    }
}

impl Exchange for Call {
    fn respond(&mut self, head: &mut Parts, span: &SpanRef<'_>) -> bool {
        self.status = Some(head.status);
        let code = i64::from(head.status.as_u16());
        let received = [
            KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, code),
            KeyValue::new(
                semconv::NETWORK_PROTOCOL_VERSION,
                protocol_version(head.version),
            ),
        ];
        span.set_attributes(received.clone());
        self.attributes.0.extend(received);
        if let Some(Peer(peer)) = head.extensions.get() {
            self.peer = Some(peer.ip());
            span.set_attribute(KeyValue::new(
                semconv::NETWORK_PEER_ADDRESS,
                peer.ip().to_string(),
            ));
            let port = i64::from(peer.port());
            span.set_attribute(KeyValue::new(semconv::NETWORK_PEER_PORT, port));
        }
        self.record_headers(head, span);
        !self.is_head
    }

    /// Cancellation by the caller is not an error, so span and metric only get the attribute
    /// `telemetry_common.cancelled`. To drop a response before its body was read is one.
    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>) {
        if matches!(end.outcome, Outcome::Cancelled) {
            span.set_attribute(KeyValue::new(semconv::CANCELLED, true));
            self.attributes.add(semconv::CANCELLED, true);
        }
        let error_type = self.error_type(end.outcome);
        self.log(end, error_type.as_deref());
        if let Some(error_type) = error_type {
            edge::fail(span, error_type.clone(), "");
            self.attributes.add(semconv::ERROR_TYPE, error_type);
        }
        DURATION.record(end.duration.as_secs_f64(), &self.attributes.0);
    }
}

/// Returns `error.type` of an error of reqwest.
fn kind_of(error: &(dyn StdError + 'static)) -> &'static str {
    let mut causes = iter::successors(Some(error), |&cause| cause.source());
    let error = causes.find_map(|cause| cause.downcast_ref::<reqwest::Error>());
    match error {
        // A connect timeout is both. It counts as a timeout, because the caller configured it.
        Some(error) if error.is_timeout() => "timeout",
        Some(error) if error.is_connect() => "connect",
        _ => "_OTHER",
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

/// Created at the first request, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::seconds(
        semconv::HTTP_CLIENT_REQUEST_DURATION,
        "Duration of HTTP client requests",
    )
});
