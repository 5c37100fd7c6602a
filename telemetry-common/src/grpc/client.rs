//! The client layer: one span and one measurement for each call, which propagate the context.

use std::{
    fmt::Display,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, StatusCode, Uri, response::Parts};
use http_body::Body;
use opentelemetry::{
    Context as Trace, KeyValue,
    metrics::{BoundHistogram, Histogram},
    trace::{SpanKind, SpanRef},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{GRPC, method_of, status};
use tracing::Span;

use crate::{
    current::Current,
    edge::{self, Attributes},
    error_chain,
    http::{
        ObservedBody, ObservedFuture,
        exchange::{End, Exchange, Outcome, Running},
        outgoing,
    },
    scope, semconv,
    series::SeriesOf,
};

/// Returns the layer around the channel to `endpoint`, whose host and port are recorded.
pub fn client_layer(endpoint: &Uri) -> ClientLayer {
    let default_port = match endpoint.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    ClientLayer(Arc::new(Server {
        address: endpoint.host().unwrap_or_default().to_owned(),
        port: i64::from(endpoint.port_u16().unwrap_or(default_port)),
        is_trusted: false,
    }))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    address: String,
    port: i64,
    is_trusted: bool,
}

/// The layer that observes the calls of a client. [`client_layer`] creates it.
#[derive(Clone, Debug)]
pub struct ClientLayer(Arc<Server>);

impl ClientLayer {
    /// Also sends baggage and the [`RequestId`](crate::RequestId). Every server receives the trace
    /// context.
    #[must_use]
    pub fn trusted(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_trusted = true;
        self
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService {
            inner,
            server: Arc::clone(&self.0),
        }
    }
}

/// A channel whose calls are observed. [`ClientLayer`] creates it.
#[derive(Clone, Debug)]
pub struct ClientService<S> {
    inner: S,
    server: Arc<Server>,
}

impl<S, B, R> Service<Request<B>> for ClientService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error: Display>,
    R: Body,
{
    type Response = Response<ObservedBody<R>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut running = Call::start(&self.server, request.uri().path());
        let response = running.run(|_| {
            outgoing::add_headers(request.headers_mut(), self.server.is_trusted);
            self.inner.call(request)
        });
        ObservedFuture::new(response, Some(running))
    }
}

struct Call {
    server: Arc<Server>,
    method: String,
    status: Option<&'static str>,
    http_status: Option<StatusCode>,
}

impl Call {
    fn start(server: &Arc<Server>, path: &str) -> Running {
        let method = method_of(path).to_owned();
        let describe = |attributes: &mut Attributes| {
            attributes.add(semconv::RPC_SYSTEM_NAME, GRPC);
            attributes.add(semconv::RPC_METHOD, method.clone());
            attributes.add(semconv::SERVER_ADDRESS, server.address.clone());
            attributes.add(semconv::SERVER_PORT, server.port);
            method.clone().into()
        };
        let edge = edge::start(Trace::current(), SpanKind::Client, None, describe);
        let call = Self {
            server: Arc::clone(server),
            method,
            status: None,
            http_status: None,
        };
        // Without a span of the caller: a response that is kept does not keep that open.
        let current = Current::of_call(Span::none(), edge.context);
        Running::start(Box::new(call), edge.span, current)
    }
}

impl Exchange for Call {
    fn respond(&mut self, head: &mut Parts, _: &SpanRef<'_>) -> bool {
        self.status = status::of(&head.headers);
        self.http_status = Some(head.status);
        true
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.status = status::of(trailers).or(self.status);
    }

    fn end(&mut self, end: &End<'_>, span: &SpanRef<'_>) {
        let status = status::at_end(self.status, self.http_status, end.outcome);
        span.set_attribute(KeyValue::new(semconv::RPC_RESPONSE_STATUS_CODE, status));
        // By convention, every other status than OK is a failure of a client. Cancellation by the
        // caller is not.
        let is_cancelled = matches!(end.outcome, Outcome::Cancelled);
        let description = match end.outcome {
            Outcome::Failed(error) => error_chain(error).to_string(),
            _ => String::new(),
        };
        let failure = (status != status::OK && !is_cancelled).then_some(status);
        match failure {
            Some(error_type) => edge::fail(span, error_type, description),
            None if is_cancelled => span.set_attribute(KeyValue::new(semconv::CANCELLED, true)),
            None => {}
        }
        let labels = Labels {
            server: Arc::clone(&self.server),
            method: self.method.clone(),
            status,
            failure,
            is_cancelled,
        };
        let duration = DURATIONS.get(labels, Labels::bind);
        duration.record(end.duration.as_secs_f64());
    }
}

/// The attributes of the measurement of a call.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Labels {
    server: Arc<Server>,
    method: String,
    status: &'static str,
    failure: Option<&'static str>,
    is_cancelled: bool,
}

impl Labels {
    fn bind(&self) -> BoundHistogram<f64> {
        let mut attributes = Attributes(Vec::with_capacity(7));
        attributes.add(semconv::RPC_SYSTEM_NAME, GRPC);
        attributes.add(semconv::RPC_METHOD, self.method.clone());
        attributes.add(semconv::RPC_RESPONSE_STATUS_CODE, self.status);
        attributes.add(semconv::SERVER_ADDRESS, self.server.address.clone());
        attributes.add(semconv::SERVER_PORT, self.server.port);
        attributes.add_some(semconv::ERROR_TYPE, self.failure);
        attributes.add_some(semconv::CANCELLED, self.is_cancelled.then_some(true));
        DURATION.bind(&attributes.0)
    }
}

static DURATIONS: SeriesOf<Labels, BoundHistogram<f64>> = SeriesOf::new();

/// Created at the first call, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::seconds(
        semconv::RPC_CLIENT_CALL_DURATION,
        "Duration of outgoing remote procedure calls",
    )
});
