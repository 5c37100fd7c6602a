//! A call as a server records it.

use std::{
    borrow::Cow,
    mem,
    sync::{Arc, LazyLock},
};

use http::{HeaderMap, StatusCode, response::Parts};
use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Histogram},
    trace::{SpanKind, SpanRef},
};
use tracing::{Span, field::Empty, info_span, warn};

use super::{GRPC, OTHER, method_of, status};
use crate::{
    RequestId,
    current::Current,
    edge::{self, Attributes},
    error_chain,
    http::{
        exchange::{End, Exchange, Outcome, PANIC, RESPONSE_BODY, Running, SERVICE},
        server::{
            AccessLog,
            exchange::{IncomingRequest, add_headers},
            options::{Options, at_level},
            upload::Upload,
        },
    },
    scope, semconv,
    series::SeriesOf,
};

/// Starts the exchange of a call.
pub(super) fn start(
    options: &Arc<Options>,
    request: IncomingRequest<'_>,
    _: Option<Arc<Upload>>,
) -> Running {
    let original = method_of(request.head.uri.path());
    // The function of the application knows the methods. Without it, the status reveals an unknown
    // one.
    let method = match &options.route {
        Some(route) => route(request.head).map_or(OTHER.to_owned(), |method| (*method).to_owned()),
        None => original.to_owned(),
    };
    let describe = |attributes: &mut Attributes| {
        attributes.add(semconv::RPC_SYSTEM_NAME, GRPC);
        attributes.add(semconv::RPC_METHOD, method.clone());
        let original = (method == OTHER).then(|| original.to_owned());
        attributes.add_some(semconv::RPC_METHOD_ORIGINAL, original);
        request.origin.describe(attributes);
        attributes.add(semconv::REQUEST_ID, request.id.to_value());
        span_name(&method)
    };
    let edge = edge::start(request.parent, SpanKind::Server, request.link, describe);
    let fields = info_span!(
        target: edge::TARGET,
        "grpc.server",
        { semconv::RPC_METHOD } = method,
        { semconv::REQUEST_ID } = request.id.as_str(),
        { semconv::RPC_RESPONSE_STATUS_CODE } = Empty,
    );
    let exchange = GrpcExchange {
        options: Arc::clone(options),
        fields: fields.clone(),
        id: request.id,
        method,
        status: None,
        http_status: None,
    };
    let tags = [(semconv::RPC_METHOD, Some(&*exchange.method))];
    let name = || exchange.method.clone().into();
    let current = Current::of_request(fields, edge.context, name, &tags);
    Running::start(Box::new(exchange), edge.span, current)
}

/// Returns the name of the span of a method.
fn span_name(method: &str) -> Cow<'static, str> {
    if method == OTHER {
        GRPC.into()
    } else {
        method.to_owned().into()
    }
}

struct GrpcExchange {
    options: Arc<Options>,
    /// The span for layers of the application.
    fields: Span,
    id: RequestId,
    method: String,
    /// The status in the head or in the trailers.
    status: Option<&'static str>,
    /// The status of HTTP, if there is a response.
    http_status: Option<StatusCode>,
}

impl GrpcExchange {
    /// Replaces a method that the server does not implement, because clients choose its name.
    fn forget_unknown_method(&mut self, span: &SpanRef<'_>) {
        let original = mem::replace(&mut self.method, OTHER.to_owned());
        if original != OTHER {
            span.set_attribute(KeyValue::new(semconv::RPC_METHOD, OTHER));
            span.set_attribute(KeyValue::new(semconv::RPC_METHOD_ORIGINAL, original));
            span.update_name(GRPC);
        }
    }

    /// Returns `error.type` and a description, or `None` if the call did not fail. A client that
    /// cancels is not a failure of the server.
    fn failure(
        &self,
        outcome: Outcome<'_>,
        status: &'static str,
    ) -> Option<(&'static str, String)> {
        match outcome {
            Outcome::Panicked => Some((PANIC, "the handler panicked".to_owned())),
            Outcome::Failed(error) => {
                let error_type = self.http_status.map_or(SERVICE, |_| RESPONSE_BODY);
                Some((error_type, error_chain(error).to_string()))
            }
            Outcome::Completed => {
                status::is_server_failure(status).then(|| (status, String::new()))
            }
            Outcome::Cancelled => None,
        }
    }

    fn log(&self, end: &End<'_>, status: &'static str, error_type: Option<&str>) {
        let has_failed = error_type.is_some() || status != status::OK;
        if !has_failed && self.options.leaves_out(end.duration) {
            return;
        }
        let method = &*self.method;
        macro_rules! log {
            ($log:ident!($($level:expr)?), $name:literal, $($message:tt)+) => {
                $log!(
                    $($level,)?
                    name: $name,
                    {
                        { semconv::RPC_METHOD } = method,
                        { semconv::RPC_RESPONSE_STATUS_CODE } = status,
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
                "telemetry_common.rpc.server.responded",
                "{method} responded with {status}"
            ),
            Outcome::Cancelled => log!(
                at_level!(self.options.access_log),
                "telemetry_common.rpc.server.cancelled",
                "{method} was cancelled before its end"
            ),
            Outcome::Panicked => {
                log!(
                    at_level!(self.options.access_log),
                    "telemetry_common.rpc.server.panicked",
                    "{method} panicked"
                );
            }
            Outcome::Failed(error) => log!(
                warn!(),
                "telemetry_common.rpc.server.failed",
                "{method} failed: {}",
                error_chain(error)
            ),
        }
    }
}

impl Exchange for GrpcExchange {
    fn respond(&mut self, head: &mut Parts, _: &SpanRef<'_>) -> bool {
        self.status = status::of(&head.headers);
        self.http_status = Some(head.status);
        add_headers(head, &self.id);
        true
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.status = status::of(trailers).or(self.status);
    }

    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>) {
        let status = status::at_end(self.status, self.http_status, end.outcome);
        // A response without a status is not one of the called service.
        let is_unknown = status == status::UNIMPLEMENTED || self.status.is_none();
        if is_unknown && matches!(end.outcome, Outcome::Completed) {
            self.forget_unknown_method(span);
        }
        span.set_attribute(KeyValue::new(semconv::RPC_RESPONSE_STATUS_CODE, status));
        self.fields
            .record(semconv::RPC_RESPONSE_STATUS_CODE, status);
        if let Some(time) = end.first_byte {
            let time = time.as_secs_f64();
            span.set_attribute(KeyValue::new(semconv::TIME_TO_FIRST_BYTE, time));
        }
        let is_cancelled = matches!(end.outcome, Outcome::Cancelled);
        let failure = self.failure(end.outcome, status);
        let error_type = failure.map(|(error_type, description)| {
            edge::fail(span, error_type, description);
            error_type
        });
        if is_cancelled {
            span.set_attribute(KeyValue::new(semconv::CANCELLED, true));
        }
        self.log(end, status, error_type);
        let labels = Labels {
            method: self.method.clone(),
            status,
            error_type,
            is_cancelled,
        };
        let duration = DURATIONS.get(labels, Labels::bind);
        duration.record(end.duration.as_secs_f64());
    }
}

/// The attributes of the measurement of a call.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Labels {
    method: String,
    status: &'static str,
    error_type: Option<&'static str>,
    is_cancelled: bool,
}

impl Labels {
    fn bind(&self) -> BoundHistogram<f64> {
        let mut attributes = Attributes(Vec::with_capacity(5));
        attributes.add(semconv::RPC_SYSTEM_NAME, GRPC);
        attributes.add(semconv::RPC_METHOD, self.method.clone());
        attributes.add(semconv::RPC_RESPONSE_STATUS_CODE, self.status);
        attributes.add_some(semconv::ERROR_TYPE, self.error_type);
        attributes.add_some(semconv::CANCELLED, self.is_cancelled.then_some(true));
        DURATION.bind(&attributes.0)
    }
}

static DURATIONS: SeriesOf<Labels, BoundHistogram<f64>> = SeriesOf::new();

/// Created at the first call, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::seconds(
        semconv::RPC_SERVER_CALL_DURATION,
        "Duration of incoming remote procedure calls",
    )
});
