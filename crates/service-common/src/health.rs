//! Health checks: a process is alive if it responds, and ready if it can process requests or
//! messages. Probes create no telemetry.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::problem::Problem;

/// The timeout of the `healthcheck` command.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The health of a service.
pub trait Readiness: Send + Sync + 'static {
    /// Returns an error if the service cannot recover and the process must be restarted.
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// Returns an error with the dependency that is not available.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Returns the routes `/health`, `/health/live` and `/health/ready`. They must be outside of the
/// layers that trace and log.
pub fn routes<R: Readiness>(readiness: R) -> Router {
    Router::new()
        .route("/health", get(ready::<R>))
        .route("/health/live", get(alive::<R>))
        .route("/health/ready", get(ready::<R>))
        .with_state(Arc::new(readiness))
}

async fn alive<R: Readiness>(State(readiness): State<Arc<R>>) -> Result<&'static str, Problem> {
    match readiness.alive() {
        Ok(()) => Ok("alive"),
        Err(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}

async fn ready<R: Readiness>(State(readiness): State<Arc<R>>) -> Result<&'static str, Problem> {
    match readiness.ready().await {
        Ok(()) => Ok("ready"),
        Err(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}

/// The `healthcheck` command: requests `/health/ready` from the service at `address` and returns 0
/// if it is ready, otherwise 1.
pub fn check(address: SocketAddr) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the runtime can create its threads");
    // A timer can only be created inside the runtime.
    let response =
        runtime.block_on(async { timeout(PROBE_TIMEOUT, request_readiness(address)).await });
    if matches!(response, Ok(Ok(true))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn request_readiness(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response.starts_with("HTTP/1.1 200"))
}
