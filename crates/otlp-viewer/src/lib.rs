//! Shows traces, log records, metrics and errors in the browser.
//!
//! The viewer receives OTLP, keeps the newest telemetry in memory, and serves a page: the latest traces, one
//! trace as a waterfall with the traces that are linked with it and their log records, a search of log records,
//! and charts of the metrics. It also takes error events of Sentry's protocol. Everything is on one port, over
//! gRPC and HTTP, and for this machine only.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use otlp_viewer::{Capacity, Viewer};
//!
//! let viewer = Viewer::start(&["127.0.0.1:0".parse().unwrap()], Capacity::default()).await?;
//! println!("OTEL_EXPORTER_OTLP_ENDPOINT={}", viewer.url());
//! println!("SENTRY_DSN={}", viewer.dsn());
//! println!("open {}", viewer.url());
//! # Ok(()) }
//! ```

pub mod file;
pub mod receive;
mod sentry;
mod store;
mod web;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, middleware::from_fn};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
};
use tokio::{net::TcpListener, task::JoinSet};

pub use store::{Capacity, Store};

/// The maximum size of a request body in bytes, after decompression.
pub const MAX_BODY: usize = 16 << 20;

/// A running viewer. It stops on drop.
#[derive(Debug)]
pub struct Viewer {
    address: SocketAddr,
    store: Arc<Store>,
    servers: JoinSet<()>,
}

impl Viewer {
    /// Starts a viewer that listens on these addresses. Fails if one of them is in use or is not one of the
    /// loopback interface.
    pub async fn start(addresses: &[SocketAddr], capacity: Capacity) -> io::Result<Self> {
        let store = Arc::new(Store::new(capacity));
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(listen(*address).await?);
        }
        let first = listeners.first().map(TcpListener::local_addr);
        let no_address = || io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        let address = first.ok_or_else(no_address)??;
        let router = router(&store);
        let mut servers = JoinSet::new();
        for listener in listeners {
            let router = router.clone();
            servers.spawn(async move {
                let served = axum::serve(listener, router).await;
                served.expect("axum serves a bound listener until it is dropped");
            });
        }
        Ok(Self {
            address,
            store,
            servers,
        })
    }

    /// Returns the URL of the page, without a trailing slash. It is also the value of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the value of `SENTRY_DSN`.
    pub fn dsn(&self) -> String {
        format!("http://public@{}/1", self.address)
    }

    /// Returns the telemetry, to which more can be added.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Serves until it fails, which it does not in normal operation.
    pub async fn serve(mut self) {
        while self.servers.join_next().await.is_some() {}
    }
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("could not listen on {address}: {error}"),
        )
    };
    if !address.ip().is_loopback() {
        let reason = "the viewer has no authentication, so it listens on loopback addresses only";
        return Err(explain(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    TcpListener::bind(address).await.map_err(explain)
}

/// Returns all routes: the page, its data, OTLP, and Sentry's envelopes.
fn router(store: &Arc<Store>) -> Router {
    web::router(Arc::clone(store))
        .merge(receive::router(store, MAX_BODY))
        .merge(sentry::router(Arc::clone(store), MAX_BODY))
        .layer(from_fn(web::local_only))
}

impl receive::Receive for Store {
    fn traces(&self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse {
        self.add_traces(&request)
    }

    fn logs(&self, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse {
        self.add_logs(&request)
    }

    fn metrics(&self, request: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse {
        self.add_metrics(&request)
    }
}
