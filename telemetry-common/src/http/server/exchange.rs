//! An HTTP exchange as a server records it: its span, its metrics and its access log record.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderName, HeaderValue, StatusCode, header, response::Parts};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanKind, SpanRef},
};
use opentelemetry_http::HeaderExtractor;
use tracing::{Span, field::Empty, info_span, warn};

use super::{
    RequestHead,
    active::ActiveRequest,
    instruments::{Labels, Series},
    options::{AccessLog, Options, at_level},
    origin::Origin,
    parent,
    upload::Upload,
};
use crate::{
    RequestId,
    current::Current,
    edge::{self, Attributes},
    error_chain,
    http::{
        X_REQUEST_ID,
        exchange::{
            CANCELLED, End, Exchange, Outcome, PANIC, REQUEST_BODY, RESPONSE_BODY, Running, SERVICE,
        },
        method::{self, OTHER},
        protocol_version,
    },
    redact, semconv, traceparent,
};

#[cfg(feature = "sentry")]
const X_SENTRY_EVENT_ID: HeaderName = HeaderName::from_static("x-sentry-event-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The replacement for the route in log messages.
const NO_ROUTE: &str = "(no matching route)";

/// Starts the exchange of a request.
pub(super) fn start(
    options: &Arc<Options>,
    head: &RequestHead<'_>,
    upload: Option<Arc<Upload>>,
) -> Running {
    let id = request_id(head);
    let (parent, link) = parent::of_request(options, &HeaderExtractor(head.headers), id.clone());
    let request = IncomingRequest {
        head,
        origin: Origin::of(options, head),
        id,
        parent,
        link,
    };
    (options.start)(options, request, upload)
}

/// A request before its exchange starts.
pub(crate) struct IncomingRequest<'r> {
    pub(crate) head: &'r RequestHead<'r>,
    pub(crate) origin: Origin<'r>,
    pub(crate) id: RequestId,
    /// The parent of the span, with request id and baggage.
    pub(crate) parent: Context,
    /// The span to link to.
    pub(crate) link: Option<SpanContext>,
}

/// Returns the caller's id if it is acceptable, else a new one.
fn request_id(head: &RequestHead<'_>) -> RequestId {
    let id = head.headers.get(X_REQUEST_ID);
    let id = id.and_then(|value| RequestId::parse(value.to_str().ok()?));
    id.unwrap_or_else(RequestId::generate)
}

fn route_of(options: &Options, head: &RequestHead<'_>) -> Option<Arc<str>> {
    if let Some(route) = &options.route {
        return route(head);
    }
    #[cfg(feature = "axum")]
    if let Some(path) = head.extensions.get::<axum::extract::MatchedPath>() {
        return Some(path.as_str().into());
    }
    None
}

pub(super) struct HttpExchange {
    /// Counts this request as active.
    #[expect(dead_code, reason = "it counts until it is dropped")]
    active: ActiveRequest,
    options: Arc<Options>,
    /// The span for layers of the application.
    fields: Span,
    id: RequestId,
    /// A known method, or `_OTHER`.
    method: &'static str,
    route: Option<Arc<str>>,
    scheme: &'static str,
    protocol: &'static str,
    upload: Option<Arc<Upload>>,
    is_head: bool,
    status: Option<StatusCode>,
}

impl HttpExchange {
    pub(super) fn start(
        options: &Arc<Options>,
        request: IncomingRequest<'_>,
        upload: Option<Arc<Upload>>,
    ) -> Running {
        let (head, origin) = (request.head, &request.origin);
        let original = head.method.as_str();
        let method = method::known(original);
        let route = route_of(options, head);
        let protocol = protocol_version(head.version);
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let describe = |attributes: &mut Attributes| {
            attributes.add(semconv::HTTP_REQUEST_METHOD, method);
            let original = (method == OTHER).then(|| original.to_owned());
            attributes.add_some(semconv::HTTP_REQUEST_METHOD_ORIGINAL, original);
            attributes.add_some(semconv::HTTP_ROUTE, route.clone());
            attributes.add(semconv::URL_PATH, head.uri.path().to_owned());
            let query = head.uri.query().map(redact::query);
            attributes.add_some(semconv::URL_QUERY, query.map(Cow::into_owned));
            attributes.add(semconv::URL_SCHEME, origin.scheme);
            origin.describe(attributes);
            attributes.add(semconv::NETWORK_PROTOCOL_VERSION, protocol);
            let agent = text(header::USER_AGENT).map(str::to_owned);
            attributes.add_some(semconv::USER_AGENT_ORIGINAL, agent);
            attributes.add(semconv::REQUEST_ID, request.id.to_value());
            method::span_name(method, route.as_deref())
        };
        let edge = edge::start(request.parent, SpanKind::Server, request.link, describe);
        let fields = info_span!(
            target: edge::TARGET,
            "http.server",
            { semconv::HTTP_REQUEST_METHOD } = method,
            { semconv::HTTP_ROUTE } = route.as_deref(),
            { semconv::URL_PATH } = head.uri.path(),
            { semconv::REQUEST_ID } = request.id.as_str(),
            { semconv::HTTP_RESPONSE_STATUS_CODE } = Empty,
            { semconv::ERROR_TYPE } = Empty,
        );
        let exchange = Self {
            active: ActiveRequest::new(method, origin.scheme),
            options: Arc::clone(options),
            fields: fields.clone(),
            id: request.id,
            method,
            route,
            scheme: origin.scheme,
            protocol,
            upload,
            is_head: original == "HEAD",
            status: None,
        };
        let name = || method::span_name(method, exchange.route.as_deref());
        let tags = [
            (semconv::HTTP_REQUEST_METHOD, Some(method)),
            (semconv::HTTP_ROUTE, exchange.route.as_deref()),
        ];
        let current = Current::of_request(fields, edge.context, name, &tags);
        Running::start(Box::new(exchange), edge.span, current)
    }

    fn route(&self) -> &str {
        self.route.as_deref().unwrap_or(NO_ROUTE)
    }

    /// Returns `error.type` and a description, or `None` if the exchange did not fail. A response
    /// 4xx is not a failure of the server.
    fn failure(&self, outcome: Outcome<'_>) -> Option<(Cow<'static, str>, String)> {
        let failed = self.status.filter(StatusCode::is_server_error);
        let upload_failed = self.upload.as_ref().is_some_and(|it| it.has_failed());
        let (error_type, description) = match (outcome, failed) {
            (Outcome::Panicked, _) => (PANIC, "the handler panicked".to_owned()),
            (Outcome::Failed(error), _) => {
                let error_type = self.status.map_or(SERVICE, |_| RESPONSE_BODY);
                (error_type, error_chain(error).to_string())
            }
            // By convention, a status code needs no description.
            (Outcome::Completed, Some(status)) => {
                return Some((status.as_str().to_owned().into(), String::new()));
            }
            _ if upload_failed => (
                REQUEST_BODY,
                "the request body could not be read".to_owned(),
            ),
            (Outcome::Cancelled, _) => (CANCELLED, "dropped before the end".to_owned()),
            (Outcome::Completed, None) => return None,
        };
        Some((error_type.into(), description))
    }

    fn log(&self, end: &End<'_>, error_type: Option<&str>) {
        let is_rejected = self.status.is_some_and(|status| status.is_client_error());
        let has_failed = error_type.is_some() || is_rejected;
        if !has_failed && self.options.leaves_out(end.duration) {
            return;
        }
        let (method, route) = (self.method, self.route());
        let status = self.status.map(|status| i64::from(status.as_u16()));
        let code = status.unwrap_or_default();
        macro_rules! log {
            ($log:ident!($($level:expr)?), $name:literal, $($message:tt)+) => {
                $log!(
                    $($level,)?
                    name: $name,
                    {
                        { semconv::HTTP_REQUEST_METHOD } = method,
                        { semconv::HTTP_ROUTE } = self.route.as_deref(),
                        { semconv::HTTP_RESPONSE_STATUS_CODE } = status,
                        { semconv::DURATION } = end.duration.as_secs_f64(),
                        { semconv::TIME_TO_FIRST_BYTE } = end.first_byte.map(|time| time.as_secs_f64()),
                        { semconv::ERROR_TYPE } = error_type,
                    },
                    $($message)+
                )
            };
        }
        match end.outcome {
            Outcome::Completed => log!(
                at_level!(self.options.access_log),
                "telemetry_common.http.server.responded",
                "{method} {route} responded with {code}"
            ),
            Outcome::Cancelled => log!(
                at_level!(self.options.access_log),
                "telemetry_common.http.server.cancelled",
                "{method} {route} was cancelled before its end"
            ),
            Outcome::Panicked => log!(
                at_level!(self.options.access_log),
                "telemetry_common.http.server.panicked",
                "{method} {route} panicked"
            ),
            // Nothing else logs the error of a body: the response has already begun.
            Outcome::Failed(error) => log!(
                warn!(),
                "telemetry_common.http.server.failed",
                "{method} {route} failed: {}",
                error_chain(error)
            ),
        }
    }

    fn measure(&self, end: &End<'_>, error_type: Option<Cow<'static, str>>) {
        let series = Series::of(Labels {
            method: self.method,
            scheme: self.scheme,
            protocol: self.protocol,
            route: self.route.clone(),
            status: self.status,
            error_type,
        });
        series.record_duration(end.duration.as_secs_f64());
        if self.options.body_sizes {
            if let Some(upload) = &self.upload {
                // Not the announced size, which any client can invent.
                series.record_request_size(upload.received());
            }
            series.record_response_size(end.response_size);
        }
    }
}

impl Exchange for HttpExchange {
    fn respond(&mut self, head: &mut Parts, span: &SpanRef<'_>) -> bool {
        self.status = Some(head.status);
        let code = i64::from(head.status.as_u16());
        span.set_attribute(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, code));
        self.fields.record(semconv::HTTP_RESPONSE_STATUS_CODE, code);
        add_headers(head, &self.id);
        has_body(head.status) && !self.is_head
    }

    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>) {
        if let Some(time) = end.first_byte {
            let time = time.as_secs_f64();
            span.set_attribute(KeyValue::new(semconv::TIME_TO_FIRST_BYTE, time));
        }
        let error_type = self.failure(end.outcome).map(|(error_type, description)| {
            self.fields.record(semconv::ERROR_TYPE, &*error_type);
            edge::fail(span, error_type.clone(), description);
            error_type
        });
        self.log(end, error_type.as_deref());
        self.measure(end, error_type);
    }
}

/// Whether a response with this status can have a body.
fn has_body(status: StatusCode) -> bool {
    let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    !has_none && !status.is_informational()
}

/// Adds the request id, the context of the span, and the id of the Sentry event of a server error.
pub(crate) fn add_headers(head: &mut Parts, id: &RequestId) {
    head.headers.insert(X_REQUEST_ID, HeaderValue::from(id));
    if let Some(value) = traceparent().and_then(|value| HeaderValue::try_from(value).ok()) {
        head.headers.insert(TRACEPARENT, value);
    }
    #[cfg(feature = "sentry")]
    if head.status.is_server_error()
        && let Some(id) = crate::sentry::event_id()
        && let Ok(id) = HeaderValue::try_from(id)
    {
        head.headers.insert(X_SENTRY_EVENT_ID, id);
    }
}
