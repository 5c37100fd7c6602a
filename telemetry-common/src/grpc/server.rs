//! A call as a server records it.

use std::{mem, sync::LazyLock};

use http::{HeaderMap, response::Parts};
use opentelemetry::{
    KeyValue,
    metrics::Histogram,
    trace::{SpanKind, SpanRef},
};
use tracing::{Span, debug, field::Empty, info, info_span, warn};

use super::{GRPC, OTHER, duration, method_of, status};
use crate::{
    RequestId,
    current::Current,
    edge::{self, Attributes},
    error_chain,
    http::{
        exchange::{End, Exchange, Outcome, Running},
        server::{
            AccessLog,
            exchange::{IncomingRequest, add_headers},
        },
    },
    semconv,
};

/// Starts the exchange of a call.
pub(crate) fn start(access_log: AccessLog, request: IncomingRequest<'_>) -> Running {
    let method = method_of(request.head.uri.path()).to_owned();
    let describe = |attributes: &mut Attributes| {
        attributes.add(semconv::RPC_SYSTEM_NAME, GRPC);
        attributes.add(semconv::RPC_METHOD, method.clone());
        request.origin.describe(attributes);
        attributes.add(semconv::REQUEST_ID, request.id.to_value());
        method.clone().into()
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
        access_log,
        fields: fields.clone(),
        id: request.id,
        method,
        status: None,
    };
    let tags = [(semconv::RPC_METHOD, Some(&*exchange.method))];
    let name = || exchange.method.clone().into();
    let current = Current::of_request(fields, edge.context, name, &tags);
    Running::start(Box::new(exchange), edge.span, current)
}

struct GrpcExchange {
    access_log: AccessLog,
    /// The span for layers of the application.
    fields: Span,
    id: RequestId,
    method: String,
    status: Option<&'static str>,
}

impl GrpcExchange {
    /// Replaces a method that the server does not implement, because clients choose its name.
    fn forget_unknown_method(&mut self, span: &SpanRef<'_>) {
        let original = mem::replace(&mut self.method, OTHER.to_owned());
        span.set_attribute(KeyValue::new(semconv::RPC_METHOD, OTHER));
        span.set_attribute(KeyValue::new(semconv::RPC_METHOD_ORIGINAL, original));
        span.update_name(GRPC);
    }

    fn log(&self, end: &End<'_>, status: &'static str) {
        let method = &*self.method;
        macro_rules! log {
            ($level:ident) => {
                $level!(
                    name: "telemetry_common.rpc.server.responded",
                    {
                        { semconv::RPC_METHOD } = method,
                        { semconv::RPC_RESPONSE_STATUS_CODE } = status,
                        { semconv::DURATION } = end.duration.as_secs_f64(),
                    },
                    "{method} responded with {status}"
                )
            };
        }
        match (end.outcome, self.access_log) {
            (Outcome::Failed(error), _) => warn!(
                name: "telemetry_common.rpc.server.failed",
                { { semconv::RPC_METHOD } = method },
                "{method} failed: {}",
                error_chain(error)
            ),
            (_, AccessLog::Info) => log!(info),
            (_, AccessLog::Debug) => log!(debug),
            (_, AccessLog::Off) => {}
        }
    }
}

impl Exchange for GrpcExchange {
    fn respond(&mut self, head: &mut Parts, _: &SpanRef<'_>) -> bool {
        self.status = status::of(&head.headers);
        add_headers(head, &self.id);
        true
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.status = status::of(trailers);
    }

    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>) {
        // Without a status, the call did not end as gRPC requires.
        let status = match end.outcome {
            Outcome::Cancelled => self.status.unwrap_or(status::CANCELLED),
            _ => self.status.unwrap_or(status::UNKNOWN),
        };
        if status == status::UNIMPLEMENTED {
            self.forget_unknown_method(span);
        }
        span.set_attribute(KeyValue::new(semconv::RPC_RESPONSE_STATUS_CODE, status));
        self.fields
            .record(semconv::RPC_RESPONSE_STATUS_CODE, status);
        if let Some(time) = end.first_byte {
            let time = time.as_secs_f64();
            span.set_attribute(KeyValue::new(semconv::TIME_TO_FIRST_BYTE, time));
        }
        let failure = match end.outcome {
            Outcome::Panicked => Some(("panic", "the handler panicked".to_owned())),
            Outcome::Failed(error) => Some((status, error_chain(error).to_string())),
            _ => status::is_server_failure(status).then(|| (status, String::new())),
        };
        let error_type = failure.map(|(error_type, description)| {
            edge::fail(span, error_type, description);
            error_type
        });
        self.log(end, status);
        let mut attributes = vec![
            KeyValue::new(semconv::RPC_SYSTEM_NAME, GRPC),
            KeyValue::new(semconv::RPC_METHOD, self.method.clone()),
            KeyValue::new(semconv::RPC_RESPONSE_STATUS_CODE, status),
        ];
        attributes.extend(error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name)));
        let seconds = end.duration.as_secs_f64();
        DURATION.record(seconds, &attributes);
    }
}

/// Created at the first call, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    duration(
        semconv::RPC_SERVER_CALL_DURATION,
        "Duration of incoming remote procedure calls",
    )
});
