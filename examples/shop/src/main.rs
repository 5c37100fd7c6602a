//! A service whose request runs a query and sends a message: one trace, with log records and
//! metrics.

use anyhow::Result;
use axum::{Router, extract::State, http::StatusCode, routing::post};
use clap::Parser;
use rdkafka::{ClientConfig, producer::FutureRecord};
use telemetry_common::{
    builder,
    db::{Database, Limits, Session},
    exception,
    http::server,
    kafka::Producer,
    service,
};
use tokio::{net::TcpListener, signal::ctrl_c};

#[derive(Parser)]
struct Settings {
    #[arg(long, env, default_value = "127.0.0.1:8080")]
    listen_addr: String,
    #[arg(long, env, hide_env_values = true)]
    database_url: String,
    #[arg(long, env, default_value = "127.0.0.1:9092")]
    kafka_bootstrap_servers: String,
}

#[derive(Clone)]
struct Shop {
    db: Database,
    producer: Producer,
}

#[tokio::main]
async fn main() -> Result<()> {
    let settings = Settings::parse();
    let _telemetry = builder(service!()).install()?;
    let mut kafka = ClientConfig::new();
    kafka.set("bootstrap.servers", settings.kafka_bootstrap_servers);
    let shop = Shop {
        db: Database::new(settings.database_url.parse()?, Limits::default(), "shop"),
        producer: Producer::create(kafka.set("client.id", "shop"))?,
    };
    let router = Router::new().route("/sell", post(sell)).with_state(shop);
    let router = router.layer(server::layer());
    let listener = TcpListener::bind(settings.listen_addr).await?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let interrupted = async { ctrl_c().await.unwrap_or_default() };
    let serving = axum::serve(listener, router).with_graceful_shutdown(interrupted);
    Ok(serving.await?)
}

async fn sell(State(shop): State<Shop>) -> Result<String, StatusCode> {
    let price = sqlx::query_scalar("select 42");
    let price = price.fetch_one(shop.db.on("SELECT", "prices")).await;
    let price: i32 = price.map_err(|error| failed(&error))?;
    let payload = price.to_string();
    let record = FutureRecord::to("sold").key("7").payload(&payload);
    let sent = shop.producer.send(record, Some("sale-7")).await;
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
