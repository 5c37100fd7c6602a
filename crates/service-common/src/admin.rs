//! The admin listener: serves the metrics and the log filter of a running process on a separate
//! address. Its requests create no spans and no access log.

use std::{io, net::SocketAddr};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use telemetry_common::{
    ConsoleFilter, LogFormat, Scrape, Telemetry, connection::MeasuredConnection,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    authorization::{AdminToken, authorize},
    lifecycle::print,
    problem::Problem,
};

/// The settings of the admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address to listen on. Port 0 selects a free port.
    pub address: SocketAddr,
    /// The token that writes require.
    pub token: AdminToken,
}

#[derive(Clone)]
struct AdminState {
    scrape: Option<Scrape>,
    console: ConsoleFilter,
}

impl Admin {
    /// Binds the address. Returns a future that serves until `stop` is cancelled.
    pub(crate) async fn open(
        self,
        telemetry: &Telemetry,
        format: LogFormat,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = io::Result<()>> + Send + 'static> {
        let listener = TcpListener::bind(self.address).await;
        let listener = listener
            .with_context(|| format!("could not listen on {} (ADMIN_ADDR)", self.address))?;
        announce(listener.local_addr()?, format);
        let state = AdminState {
            scrape: telemetry.scrape(),
            console: telemetry.console_filter(),
        };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/log-filter", get(log_filter).put(set_log_filter))
            .with_state(state)
            .layer(from_fn_with_state(self.token, authorize));
        let serving = axum::serve(MeasuredListener(listener), router);
        Ok(serving
            .with_graceful_shutdown(stop.cancelled_owned())
            .into_future())
    }
}

/// A listener that records the metrics of its connections.
struct MeasuredListener(TcpListener);

impl Listener for MeasuredListener {
    type Io = MeasuredConnection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        (MeasuredConnection::accepted(stream, "admin"), peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

async fn metrics(State(state): State<AdminState>) -> Response {
    match state.scrape.as_ref().map(Scrape::text) {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, Scrape::MEDIA_TYPE)], text).into_response(),
        Some(Err(error)) => unavailable(&error).into_response(),
        None => Problem::new(
            StatusCode::NOT_FOUND,
            "OTEL_METRICS_EXPORTER does not list prometheus",
        )
        .into_response(),
    }
}

async fn log_filter(State(state): State<AdminState>) -> Result<String, Problem> {
    state.console.get().map_err(|error| unavailable(&error))
}

async fn set_log_filter(
    State(state): State<AdminState>,
    filter: String,
) -> Result<String, Problem> {
    let set = state.console.set(filter.trim());
    set.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    log_filter(State(state)).await
}

fn unavailable(error: &dyn std::error::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// Prints and logs the address, as the API does.
fn announce(address: SocketAddr, format: LogFormat) {
    print(&format!("admin on {address}"), format);
    info!(name: "bookapp.admin.listening", "the admin listener listens on {address}");
}
