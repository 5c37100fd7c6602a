//! A minimal HTTP service: each request creates a span, a log record and measurements.

use std::env;

use axum::{Router, routing::get};
use telemetry_common::{builder, http::server, service};
use tokio::{net::TcpListener, signal::ctrl_c};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = builder(service!()).install()?;
    let router = Router::new().route("/hello", get(async || "hello"));
    let router = router.layer(server::layer());
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let interrupted = async { ctrl_c().await.unwrap_or_default() };
    let serving = axum::serve(listener, router).with_graceful_shutdown(interrupted);
    Ok(serving.await?)
}
