//! Health: alive while the process answers, ready while it can work. Probes leave no trace.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::problem::Problem;

/// How long the `healthcheck` command waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Says whether the service lives, and whether it can work now.
pub trait Readiness: Send + Sync + 'static {
    /// `Err` names what will not come back by itself: the process should be started anew.
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// `Err` names what is missing.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// `/health`, `/health/live`, `/health/ready`: merge them outside the layers that trace and log.
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
        Err(dead) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, dead)),
    }
}

async fn ready<R: Readiness>(State(readiness): State<Arc<R>>) -> Result<&'static str, Problem> {
    match readiness.ready().await {
        Ok(()) => Ok("ready"),
        Err(lacking) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, lacking)),
    }
}

/// The `healthcheck` command: requests `/health/ready` from the service at `address` and returns 0
/// when it is ready, else 1.
pub fn check(address: SocketAddr) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a process its threads");
    // A timer can only be made inside the runtime.
    let answer = runtime.block_on(async { timeout(PROBE_TIMEOUT, ask(address)).await });
    if matches!(answer, Ok(Ok(true))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
