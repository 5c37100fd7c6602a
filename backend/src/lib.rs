//! The worker: consumes book events, derives details from each book, serves them over HTTP.
//!
//! The map, in the order of a message: [`consumer`] (receive → span → handle → settle) knows Kafka
//! and nothing of books; [`ingestion`] knows books and nothing of Kafka; [`details`] is what was
//! derived and its HTTP API, described by [`openapi`]; [`app`] is the router.

pub mod app;
pub mod config;
pub mod consumer;
pub mod details;
mod error;
mod health;
pub mod ingestion;
pub mod openapi;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use service_common::lifecycle::supervise;
use telemetry_common::db::Database;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{config::Config, consumer::Consumer};

/// The service, bound to its address and ready to run.
pub struct App {
    listener: TcpListener,
    router: Router,
    consumer: Consumer,
    config: Config,
    db: Database,
}

impl App {
    /// Binds the address and prepares the clients; nobody has to be there yet.
    pub async fn build(config: Config) -> Result<Self> {
        let db = config.postgres.connect("backend")?;
        let consumer = Consumer::new(&config, db.clone())?;
        let router = app::router(db.clone(), consumer.liveness());
        let listener = TcpListener::bind(config.listen_addr)
            .await
            .with_context(|| format!("could not listen on {}", config.listen_addr))?;
        Ok(Self {
            listener,
            router,
            consumer,
            config,
            db,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves and consumes until told to stop.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut tasks = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        let service = self
            .router
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(self.listener, service).with_graceful_shutdown(stopped);
        tasks.spawn(async { Ok(server.await?) });
        let (consumer, db, stopping) = (self.consumer, self.db.clone(), stop.clone());
        let kafka = self.config.kafka.clone();
        tasks.spawn(async move {
            let ready = async {
                ingestion::wait_for_schema(&db).await;
                kafka
                    .create_topics(&consumer::TOPICS, book_events::PARTITIONS)
                    .await
            };
            match stopping.run_until_cancelled(ready).await {
                Some(ready) => ready?,
                None => return Ok(()),
            }
            consumer.run(stopping).await
        });
        supervise(tasks, stop, self.config.shutdown_timeout).await?;
        self.db.untraced().close().await;
        Ok(())
    }
}

/// Builds the service, says where it listens, and runs it until told to stop.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let app = App::build(config).await?;
    let address = app.address()?;
    announce(address);
    app.run(stop).await
}

#[expect(
    clippy::print_stdout,
    reason = "what starts the service reads its address"
)]
fn announce(address: SocketAddr) {
    println!("listening on {address}");
    info!("listening on {address}");
}
