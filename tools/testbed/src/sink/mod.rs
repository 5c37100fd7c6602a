//! An OTLP sink: takes spans, logs and metrics over HTTP and gRPC on one port, keeps them, and can
//! be asked for them.

mod read;
mod server;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    trace::v1::{ResourceSpans, ScopeSpans},
};
use prost::Message;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    select,
    sync::oneshot,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use crate::{port, tls};

/// A running sink; gone on drop.
pub struct Sink {
    address: SocketAddr,
    received: Arc<Received>,
    server: Option<Runtime>,
    tls: Option<TlsAcceptor>,
}

/// Attributes with the types they arrived in: a number that came as text is a string here.
pub type Attributes = BTreeMap<String, Value>;

/// A span as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The resource's attributes.
    pub resource: Attributes,
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// `None` for a root.
    pub parent_id: Option<String>,
    /// Its name.
    pub name: String,
    /// `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `INTERNAL`.
    pub kind: &'static str,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// The schema that the scope's names follow.
    pub schema_url: String,
    /// Trace and span ids of what it links to.
    pub links: Vec<(String, String)>,
    /// `UNSET`, `OK` or `ERROR`.
    pub status: &'static str,
}

/// A log record as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The resource's attributes.
    pub resource: Attributes,
    /// 32 hex digits; empty outside any trace.
    pub trace_id: String,
    /// 16 hex digits; empty outside any span.
    pub span_id: String,
    /// `INFO`, `WARN` …
    pub severity: String,
    /// Who wrote it: the module.
    pub scope: String,
    /// The event's name; empty where it has none.
    pub event: String,
    /// The message.
    pub body: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Nanoseconds since 1970.
    pub time: u64,
}

/// The newest value of one series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The resource's attributes.
    pub resource: Attributes,
    /// The metric's name.
    pub name: String,
    /// The metric's unit.
    pub unit: String,
    /// `counter`, `updowncounter`, `gauge` or `histogram`: the registry's words.
    pub instrument: &'static str,
    /// Whether it tells what was added since the last export, not since the start.
    pub is_delta: bool,
    /// A histogram's bucket boundaries.
    pub bounds: Vec<f64>,
    /// The series' attributes.
    pub attributes: Attributes,
    /// A sum's or gauge's value; a histogram's number of measurements.
    pub value: f64,
}

/// How much has arrived: bytes of the requests' messages, uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of spans.
    pub spans: usize,
    /// Of log records.
    pub logs: usize,
    /// Of metrics.
    pub metrics: usize,
    /// In how many requests the metrics came.
    pub metric_exports: usize,
}

impl Span {
    /// The spans of an answer to `GET /api/traces/{id}`, protobuf: Tempo's or this sink's.
    pub fn of_trace(answer: &[u8]) -> Result<Vec<Self>> {
        Ok(read::spans(&ExportTraceServiceRequest::decode(answer)?))
    }
}

macro_rules! service_name {
    ($($kind:ty),*) => {$(
        impl $kind {
            /// `service.name` of who sent it.
            pub fn service(&self) -> &str {
                self.resource.get("service.name").and_then(Value::as_str).unwrap_or_default()
            }
        }
    )*};
}
service_name!(Span, Log, Point);

/// Everything that arrived, as it arrived.
#[derive(Debug, Default)]
struct Received {
    traces: Pile<ExportTraceServiceRequest>,
    logs: Pile<ExportLogsServiceRequest>,
    metrics: Pile<ExportMetricsServiceRequest>,
}

impl Received {
    /// The spans of one trace, below the resources that sent them.
    fn trace(&self, id: &str) -> ExportTraceServiceRequest {
        let id = hex::decode(id).unwrap_or_default();
        let of_scope = |scope: &ScopeSpans| {
            let spans = scope.spans.iter().filter(|span| span.trace_id == id);
            let spans: Vec<_> = spans.cloned().collect();
            (!spans.is_empty()).then(|| ScopeSpans {
                scope: scope.scope.clone(),
                spans,
                schema_url: scope.schema_url.clone(),
            })
        };
        let of_group = |group: &ResourceSpans| {
            let scope_spans: Vec<_> = group.scope_spans.iter().filter_map(of_scope).collect();
            (!scope_spans.is_empty()).then(|| ResourceSpans {
                resource: group.resource.clone(),
                scope_spans,
                schema_url: group.schema_url.clone(),
            })
        };
        let requests = self.traces.requests();
        let groups = requests.iter().flat_map(|request| &request.resource_spans);
        ExportTraceServiceRequest {
            resource_spans: groups.filter_map(of_group).collect(),
        }
    }
}

/// Requests of one kind, in the order they came.
#[derive(Debug, Default)]
struct Pile<T>(Mutex<VecDeque<T>>);

impl<T: Message> Pile<T> {
    fn push(&self, request: T) {
        self.requests().push_back(request);
    }

    /// Forgets the oldest requests while there are more than `most`; returns how many there are then.
    fn keep(&self, most: usize) -> usize {
        let mut requests = self.requests();
        let excess = requests.len().saturating_sub(most);
        requests.drain(..excess);
        requests.len()
    }

    fn bytes(&self) -> usize {
        self.requests().iter().map(Message::encoded_len).sum()
    }

    fn requests(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// Starts a sink on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// As [`start`](Self::start), over TLS; answers also the authority that signed its certificate,
    /// as PEM.
    pub async fn start_tls() -> Result<(Self, String)> {
        let (tls, authority) = tls::self_signed()?;
        Ok((Self::start_with(Some(tls)).await?, authority))
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = port::listener()?;
        let mut sink = Self {
            address: listener.local_addr()?,
            received: Arc::default(),
            server: None,
            tls,
        };
        sink.serve(Some(listener)).await?;
        Ok(sink)
    }

    /// Takes the sink away, its port and every connection with it; what it holds is kept.
    pub fn take_away(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }

    /// Brings it back to where it was.
    pub async fn bring_back(&mut self) -> Result<()> {
        self.serve(None).await
    }

    /// Serves on `listener`, or where it listened before.
    async fn serve(&mut self, listener: Option<std::net::TcpListener>) -> Result<()> {
        // A runtime of its own: ending it ends the connections too, whoever spawned them.
        let server = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (address, received, tls) = (self.address, Arc::clone(&self.received), self.tls.clone());
        let (bound, listening) = oneshot::channel();
        server.spawn(async move {
            let listener = match listener {
                None => TcpListener::bind(address).await,
                Some(listener) => listener
                    .set_nonblocking(true)
                    .and_then(|()| TcpListener::from_std(listener)),
            };
            let error = listener.as_ref().err().map(ToString::to_string);
            let _ = bound.send(error);
            if let Ok(listener) = listener {
                match tls {
                    None => server::serve(listener, received).await,
                    Some(tls) => server::serve(tls::Listener::new(listener, tls), received).await,
                }
            }
        });
        self.server = Some(server);
        match listening.await? {
            None => Ok(()),
            Some(error) => bail!("the sink cannot listen on {address}: {error}"),
        }
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`, for either protocol.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How much has arrived so far.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            spans: self.received.traces.bytes(),
            logs: self.received.logs.bytes(),
            metrics: self.received.metrics.bytes(),
            metric_exports: self.received.metrics.requests().len(),
        }
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received
            .traces
            .requests()
            .iter()
            .flat_map(read::spans)
            .collect()
    }

    /// All log records so far, oldest first.
    pub fn logs(&self) -> Vec<Log> {
        let mut logs: Vec<_> = self
            .received
            .logs
            .requests()
            .iter()
            .flat_map(read::logs)
            .collect();
        logs.sort_by_key(|log| log.time);
        logs
    }

    /// The newest point of every series so far.
    pub fn points(&self) -> Vec<Point> {
        let mut newest = BTreeMap::new();
        for point in self
            .received
            .metrics
            .requests()
            .iter()
            .flat_map(read::points)
        {
            let series = format!("{}{:?}{:?}", point.name, point.resource, point.attributes);
            newest.insert(series, point);
        }
        newest.into_values().collect()
    }
}

/// Serves OTLP and traces by their id on all of these addresses until the process ends. It keeps
/// about the newest `most` export requests of spans and nothing else, and calls `report` once a second
/// with how many of them arrived, unless none did.
pub async fn serve(addresses: &[SocketAddr], most: usize, report: impl Fn(usize)) -> Result<()> {
    let received = Arc::<Received>::default();
    let mut servers = JoinSet::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("could not listen on {address}"))?;
        servers.spawn(server::serve(listener, Arc::clone(&received)));
    }
    let housekeeping = async {
        let mut kept = 0;
        loop {
            sleep(Duration::from_secs(1)).await;
            let arrived = received.traces.requests().len() - kept;
            if arrived > 0 {
                report(arrived);
            }
            kept = received.traces.keep(most);
            received.logs.keep(0);
            received.metrics.keep(0);
        }
    };
    select! {
        ended = servers.join_next() => ended.context("no address was given")?.map_err(Into::into),
        never = housekeeping => never,
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sink at {}", self.endpoint())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.take_away();
    }
}
