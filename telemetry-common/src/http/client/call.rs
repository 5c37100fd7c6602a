//! One request as a client records it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    error::Error as StdError,
    iter,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use http::{HeaderName, StatusCode, Version, response::Parts};
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    metrics::{BoundHistogram, Histogram},
    trace::{SpanKind, SpanRef},
};
use reqwest::{Request, Url};
use serde_json::json;
use tracing::{Span, info, warn};

use crate::{
    current::Current,
    edge::{self, Attributes},
    http::{
        exchange::{End, Exchange, Outcome, PANIC, Running},
        method::{self, OTHER},
        protocol_version,
    },
    redact, scope, semconv,
    series::SeriesOf,
};

/// The resource that a request names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    method: &'static str,
    host: Option<Arc<str>>,
    port: Option<i64>,
    template: Option<&'static str>,
}

impl Target {
    /// Adds the attributes that span and metric have from the start.
    fn describe(&self, attributes: &mut Attributes) {
        attributes.add(semconv::HTTP_REQUEST_METHOD, self.method);
        attributes.add_some(semconv::SERVER_ADDRESS, self.host.clone());
        attributes.add_some(semconv::SERVER_PORT, self.port);
        attributes.add_some(semconv::URL_TEMPLATE, self.template);
    }
}

/// The attributes of the measurement of a request.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Labels {
    target: Target,
    response: Option<(StatusCode, Version)>,
    is_cancelled: bool,
    error_type: Option<Cow<'static, str>>,
}

impl Labels {
    fn bind(&self) -> BoundHistogram<f64> {
        let mut attributes = Attributes(Vec::with_capacity(8));
        self.target.describe(&mut attributes);
        if let Some((status, version)) = self.response {
            let code = i64::from(status.as_u16());
            attributes.add(semconv::HTTP_RESPONSE_STATUS_CODE, code);
            let version = protocol_version(version);
            attributes.add(semconv::NETWORK_PROTOCOL_VERSION, version);
        }
        attributes.add_some(semconv::CANCELLED, self.is_cancelled.then_some(true));
        attributes.add_some(semconv::ERROR_TYPE, self.error_type.clone());
        DURATION.bind(&attributes.0)
    }
}

/// A response extension: the address of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

pub(super) struct Call {
    target: Target,
    is_head: bool,
    /// The headers of the response to record.
    headers: Arc<[HeaderName]>,
    /// Those that the response has.
    received: BTreeMap<String, String>,
    peer: Option<IpAddr>,
    response: Option<(StatusCode, Version)>,
}

impl Call {
    pub(super) fn start(
        request: &Request,
        template: Option<&'static str>,
        headers: Arc<[HeaderName]>,
    ) -> Running {
        let (original, url) = (request.method().as_str(), request.url());
        let call = Self {
            target: Target {
                method: method::known(original),
                host: url.host_str().map(Arc::from),
                port: url.port_or_known_default().map(i64::from),
                template,
            },
            is_head: original == "HEAD",
            headers,
            received: BTreeMap::new(),
            peer: None,
            response: None,
        };
        let describe = |attributes: &mut Attributes| {
            call.target.describe(attributes);
            let original = (call.target.method == OTHER).then(|| original.to_owned());
            attributes.add_some(semconv::HTTP_REQUEST_METHOD_ORIGINAL, original);
            attributes.add(semconv::URL_FULL, String::from(recordable(url)));
            method::span_name(call.target.method, template)
        };
        let edge = edge::start(Context::current(), SpanKind::Client, None, describe);
        // Without a span of the caller: a response that is kept does not keep that open.
        let current = Current::of_call(Span::none(), edge.context);
        Running::start(Box::new(call), edge.span, current)
    }

    fn status(&self) -> Option<StatusCode> {
        self.response.map(|(status, _)| status)
    }

    /// Returns `error.type`: the status code of a 4xx or 5xx response, or the reason why there is no
    /// complete response. `None` for every other response, and if the caller cancelled.
    fn error_type(&self, outcome: Outcome<'_>) -> Option<Cow<'static, str>> {
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        match outcome {
            Outcome::Failed(error) => Some(kind_of(error).into()),
            Outcome::Panicked => Some(PANIC.into()),
            Outcome::Completed | Outcome::Cancelled => {
                let status = self.status().filter(is_error)?;
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
        let target = &self.target;
        let (method, path) = (target.method, target.template.unwrap_or_default());
        let host = target.host.as_deref().unwrap_or_default();
        let status = self.status().map(|status| i64::from(status.as_u16()));
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
                        { semconv::URL_TEMPLATE } = target.template,
                        { semconv::SERVER_ADDRESS } = target.host.as_deref(),
                        { semconv::SERVER_PORT } = target.port,
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

    fn measure(&self, end: &End<'_>, error_type: Option<Cow<'static, str>>) {
        let labels = Labels {
            target: self.target.clone(),
            response: self.response,
            is_cancelled: matches!(end.outcome, Outcome::Cancelled),
            error_type,
        };
        let duration = DURATIONS.get(labels, Labels::bind);
        duration.record(end.duration.as_secs_f64());
    }
}

impl Exchange for Call {
    fn respond(&mut self, head: &mut Parts, span: &SpanRef<'_>) -> bool {
        self.response = Some((head.status, head.version));
        let mut attributes = Attributes(Vec::with_capacity(4));
        let code = i64::from(head.status.as_u16());
        attributes.add(semconv::HTTP_RESPONSE_STATUS_CODE, code);
        let version = protocol_version(head.version);
        attributes.add(semconv::NETWORK_PROTOCOL_VERSION, version);
        if let Some(Peer(peer)) = head.extensions.get() {
            self.peer = Some(peer.ip());
            attributes.add(semconv::NETWORK_PEER_ADDRESS, peer.ip().to_string());
            attributes.add(semconv::NETWORK_PEER_PORT, i64::from(peer.port()));
        }
        span.set_attributes(attributes.0);
        self.record_headers(head, span);
        !self.is_head
    }

    /// Cancellation by the caller is not an error, so span and metric only get the attribute
    /// `telemetry_common.cancelled`. To drop a response before its body was read is one.
    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>) {
        if matches!(end.outcome, Outcome::Cancelled) {
            span.set_attribute(KeyValue::new(semconv::CANCELLED, true));
        }
        let error_type = self.error_type(end.outcome);
        if let Some(error_type) = &error_type {
            edge::fail(span, error_type.clone(), "");
        }
        self.log(end, error_type.as_deref());
        self.measure(end, error_type);
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

static DURATIONS: SeriesOf<Labels, BoundHistogram<f64>> = SeriesOf::new();

/// Created at the first request, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::seconds(
        semconv::HTTP_CLIENT_REQUEST_DURATION,
        "Duration of HTTP client requests",
    )
});
