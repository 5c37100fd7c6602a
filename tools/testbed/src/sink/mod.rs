//! An OTLP sink: receives spans, log records and metrics over HTTP and gRPC on one port, stores
//! them and returns them.

mod read;
mod received;
mod server;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_viewer::receive::Receive;
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
use received::Received;

/// A running sink. It stops on drop.
pub struct Sink {
    address: SocketAddr,
    received: Arc<Received>,
    server: Option<Runtime>,
    tls: Option<TlsAcceptor>,
}

/// Attributes with their received types: a number that was sent as a string is a string here.
pub type Attributes = BTreeMap<String, Value>;

/// An instrumentation scope; what is not sent is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The schema URL.
    pub schema_url: String,
}

/// A received span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The resource's attributes.
    pub resource: Attributes,
    /// The trace id, 32 hex digits.
    pub trace_id: String,
    /// The span id, 16 hex digits.
    pub span_id: String,
    /// The parent's span id; `None` for a root span.
    pub parent_id: Option<String>,
    /// The span name.
    pub name: String,
    /// The span kind: `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `INTERNAL`.
    pub kind: &'static str,
    /// The start time, in nanoseconds since the Unix epoch.
    pub start: u64,
    /// The end time, in nanoseconds since the Unix epoch.
    pub end: u64,
    /// The span's attributes.
    pub attributes: Attributes,
    /// The instrumentation scope that made it.
    pub scope: Scope,
    /// The trace state, as in its header.
    pub trace_state: String,
    /// The span links, each as a trace id and a span id.
    pub links: Vec<(String, String)>,
    /// The span status: `UNSET`, `OK` or `ERROR`.
    pub status: &'static str,
}

/// A received log record.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The resource's attributes.
    pub resource: Attributes,
    /// The trace id, 32 hex digits; empty outside a trace.
    pub trace_id: String,
    /// The span id, 16 hex digits; empty outside a span.
    pub span_id: String,
    /// The severity text: `INFO`, `WARN` …
    pub severity: String,
    /// The instrumentation scope; its name is the module that logged.
    pub scope: Scope,
    /// The event name; empty if the record has none.
    pub event: String,
    /// The log message.
    pub body: String,
    /// The record's attributes.
    pub attributes: Attributes,
    /// The time of the record, in nanoseconds since the Unix epoch.
    pub time: u64,
}

/// The newest data point of one time series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The resource's attributes.
    pub resource: Attributes,
    /// The instrumentation scope that made it.
    pub scope: Scope,
    /// The metric's name.
    pub name: String,
    /// The metric's unit.
    pub unit: String,
    /// The instrument as in the telemetry registry: `counter`, `updowncounter`, `gauge` or
    /// `histogram`.
    pub instrument: &'static str,
    /// Whether the aggregation temporality is delta.
    pub is_delta: bool,
    /// The bucket boundaries of a histogram.
    pub bounds: Vec<f64>,
    /// The attributes of the time series.
    pub attributes: Attributes,
    /// The value of a sum or gauge, or the count of a histogram.
    pub value: f64,
    /// The sum of the values of a histogram; 0 for others.
    pub sum: f64,
    /// The counts of the buckets of a histogram.
    pub buckets: Vec<u64>,
}

/// The amount of received data: sizes of the uncompressed protobuf messages, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The size of all spans.
    pub spans: usize,
    /// The size of all log records.
    pub logs: usize,
    /// The size of all metrics.
    pub metrics: usize,
    /// The number of metric export requests.
    pub metric_exports: usize,
}

impl Span {
    /// Decodes the protobuf response to `GET /api/traces/{id}` of Tempo or of this sink.
    pub fn of_trace(response: &[u8]) -> Result<Vec<Self>> {
        Ok(read::spans(&ExportTraceServiceRequest::decode(response)?))
    }
}

macro_rules! service_name {
    ($($kind:ty),*) => {$(
        impl $kind {
            /// Returns the resource attribute `service.name`.
            pub fn service(&self) -> &str {
                self.resource.get("service.name").and_then(Value::as_str).unwrap_or_default()
            }
        }
    )*};
}
service_name!(Span, Log, Point);

impl Sink {
    /// Starts a sink on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// Starts a sink with TLS on a free port of 127.0.0.1. Also returns the certificate authority
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

    /// From now on, accepts every request and rejects what is in it: OTLP's partial success.
    pub fn reject(&self) {
        self.received.rejects.store(true, Ordering::Relaxed);
    }

    /// Passes what was received on to `copy`, and all that is received from now on.
    pub fn copy_to(&self, copy: Arc<dyn Receive>) {
        self.received.copy_to(copy);
    }

    /// Forgets what was received, so that a program that runs for long does not grow.
    pub fn clear(&self) {
        self.received.clear();
    }

    /// Stops the sink and closes its port and all connections. Keeps the received data.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }

    /// Starts the stopped sink again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        self.serve(None).await
    }

    /// Serves on `listener`, or on the previous address if it is `None`.
    async fn serve(&mut self, listener: Option<std::net::TcpListener>) -> Result<()> {
        // A separate runtime: its shutdown also closes the connections, which axum spawns itself.
        let server = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (address, received, tls) = (self.address, Arc::clone(&self.received), self.tls.clone());
        let (bound_sender, bound) = oneshot::channel();
        server.spawn(async move {
            let listener = match listener {
                None => TcpListener::bind(address).await,
                Some(listener) => listener
                    .set_nonblocking(true)
                    .and_then(|()| TcpListener::from_std(listener)),
            };
            let error = listener.as_ref().err().map(ToString::to_string);
            let _ = bound_sender.send(error);
            if let Ok(listener) = listener {
                match tls {
                    None => server::serve(listener, received).await,
                    Some(tls) => server::serve(tls::Listener::new(listener, tls), received).await,
                }
            }
        });
        self.server = Some(server);
        match bound.await? {
            None => Ok(()),
            Some(error) => bail!("the sink cannot listen on {address}: {error}"),
        }
    }

    /// Returns the value for `OTEL_EXPORTER_OTLP_ENDPOINT`, for HTTP and gRPC.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the amount of data received so far.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            spans: self.received.traces.bytes(),
            logs: self.received.logs.bytes(),
            metrics: self.received.metrics.bytes(),
            metric_exports: self.received.metrics.requests().len(),
        }
    }

    /// Returns all spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received
            .traces
            .requests()
            .iter()
            .flat_map(read::spans)
            .collect()
    }

    /// Returns all log records received so far, oldest first.
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

    /// Returns the newest data point of every time series received so far.
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

/// Serves OTLP and `GET /api/traces/{id}` on all of these addresses until the process exits. Stores
/// approximately the newest `limit` span export requests, and no log records or metrics. Once per
/// second, calls `report` with the number of span export requests that arrived, if there were any.
pub async fn serve(addresses: &[SocketAddr], limit: usize, report: impl Fn(usize)) -> Result<()> {
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
            kept = received.traces.truncate_to_newest(limit);
            received.logs.truncate_to_newest(0);
            received.metrics.truncate_to_newest(0);
        }
    };
    select! {
        ended = servers.join_next() => ended.context("no address to listen on")?.map_err(Into::into),
        never = housekeeping => never,
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OTLP sink at {}", self.endpoint())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop();
    }
}
