//! A minimal HTTP service: each request creates a span, a log record and a measurement.

use std::time::Duration;

use anyhow::Result;
use axum::{Router, middleware::from_fn, routing::get};
use clap::Parser;
use telemetry_common::{TelemetryConfig, http::server, init, service};
use tokio::{net::TcpListener, runtime::Runtime, signal::ctrl_c};

#[derive(Parser)]
struct Settings {
    #[arg(long, env, default_value = "127.0.0.1:8080")]
    listen_addr: String,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

fn main() -> Result<()> {
    let settings = Settings::parse();
    let runtime = Runtime::new()?;
    let _entered = runtime.enter(); // the gRPC exporter requires a runtime
    let telemetry = init(&settings.telemetry, service!())?;
    let result = runtime.block_on(serve(&settings));
    telemetry.shutdown(Duration::from_secs(5)); // also after a failure
    result
}

async fn serve(settings: &Settings) -> Result<()> {
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .layer(from_fn(server::observe)) // remaining attributes of the span, metrics, access log
        .layer(server::span()) // the server span around the layers above
        .layer(from_fn(server::identify)); // the request id, for all layers
    let listener = TcpListener::bind(&settings.listen_addr).await?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let serving = axum::serve(listener, router);
    let interrupted = async { ctrl_c().await.unwrap_or_default() };
    Ok(serving.with_graceful_shutdown(interrupted).await?)
}
