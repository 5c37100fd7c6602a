//! A service whose request runs a query and sends a message: one trace, with log records and
//! metrics.

use std::time::Duration;

use anyhow::Result;
use axum::{Router, extract::State, http::StatusCode, middleware::from_fn, routing::post};
use clap::Parser;
use rdkafka::{ClientConfig, message::OwnedHeaders, producer::FutureRecord};
use sqlx::postgres::PgPoolOptions;
use telemetry_common::{
    TelemetryConfig,
    db::{Database, Session},
    exception,
    http::server,
    init,
    kafka::{self, Headers, Producer},
    service,
};
use tokio::{net::TcpListener, runtime::Runtime, signal::ctrl_c};

#[derive(Parser)]
struct Settings {
    #[arg(long, env, default_value = "127.0.0.1:8080")]
    listen_addr: String,
    #[arg(long, env, hide_env_values = true)]
    database_url: String,
    #[arg(long, env, default_value = "127.0.0.1:9092")]
    kafka_bootstrap_servers: String,
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

#[derive(Clone)]
struct Shop {
    db: Database,
    producer: Producer,
}

async fn serve(settings: &Settings) -> Result<()> {
    let options = settings.database_url.parse()?;
    let mut kafka = ClientConfig::new();
    kafka.set("bootstrap.servers", &settings.kafka_bootstrap_servers);
    let shop = Shop {
        db: Database::new(PgPoolOptions::new(), options, "shop"),
        producer: Producer::create(kafka.set("client.id", "shop"))?,
    };
    let router = Router::new()
        .route("/sell", post(sell))
        .with_state(shop)
        .layer(from_fn(server::observe)) // remaining attributes of the span, metrics, access log
        .layer(server::span()) // the server span around the layers above
        .layer(from_fn(server::identify)); // the request id, for all layers
    let listener = TcpListener::bind(&settings.listen_addr).await?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let serving = axum::serve(listener, router);
    let interrupted = async { ctrl_c().await.unwrap_or_default() };
    Ok(serving.with_graceful_shutdown(interrupted).await?)
}

async fn sell(State(shop): State<Shop>) -> Result<String, StatusCode> {
    let price = sqlx::query_scalar("select 42");
    let price: i32 = price
        .fetch_one(shop.db.on("SELECT", "prices"))
        .await
        .map_err(|error| failed(&error))?;
    let created = kafka::create_span("sold", "7", "sale-7");
    let headers = Headers::of(&created);
    let payload = price.to_string();
    let record = FutureRecord::to("sold").key("7").payload(&payload);
    let record = record.headers(OwnedHeaders::from(&headers));
    let sent = shop
        .producer
        .send(record, Some("sale-7"), &[&headers.context()])
        .await;
    sent.map_err(|error| failed(&error))?;
    tracing::info!("sold for {price}");
    Ok(payload)
}

/// Logs the error, once, where the response is created.
fn failed(error: &impl std::error::Error) -> StatusCode {
    exception!(
        error,
        "http.server.request.exception",
        error,
        "the sale failed"
    );
    StatusCode::INTERNAL_SERVER_ERROR
}
