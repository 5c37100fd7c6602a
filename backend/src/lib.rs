//! The worker: consumes book events, derives details of the books and serves them over HTTP.
//!
//! Modules, in the order of a message:
//! - [`consumer`]: receives messages and acknowledges them; it does not read books
//! - [`ingestion`]: derives and stores the details of a book; it does not depend on Kafka
//! - [`dead_letters`]: the messages that cannot be processed, and the commands for them
//! - [`details`]: the stored details and their HTTP API
//! - [`openapi`]: the OpenAPI document of that API
//! - [`app`]: the routes and their layers

pub mod app;
pub mod config;
pub mod consumer;
pub mod dead_letters;
pub mod details;
mod error;
mod health;
pub mod ingestion;
mod metrics;
pub mod openapi;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use service_common::{
    fault_injection::FaultInjector,
    health::{DatabaseCheck, routes as health_routes},
    lifecycle::{Shutdown, announce, supervise},
    server::serve,
};
use telemetry_common::{db::Database, sentry::isolate, task::JoinSet};
use tokio::{join, net::TcpListener};

use crate::{config::Config, consumer::Consumer, health::Ready};

/// The service, bound to its address and ready to run.
pub struct App {
    listener: TcpListener,
    router: Router,
    consumer: Consumer,
    faults: Option<FaultInjector>,
    config: Config,
    db: Database,
}

impl App {
    /// Binds the address and prepares the clients. Neither PostgreSQL nor Kafka has to be reachable
    /// yet.
    pub async fn build(config: Config) -> Result<Self> {
        let db = config.service.postgres.connect("backend")?;
        let is_enabled = config.service.fault_injection;
        let faults = is_enabled.then(|| FaultInjector::new("backend"));
        let consumer = Consumer::new(&config, db.clone(), faults.clone())?;
        let router = app::router(db.clone(), config.service.server, faults.clone());
        let listener = TcpListener::bind(config.service.listen_addr)
            .await
            .with_context(|| format!("could not listen on {}", config.service.listen_addr))?;
        Ok(Self {
            listener,
            router,
            consumer,
            faults,
            config,
            db,
        })
    }

    /// Returns the address on which the API listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves requests and consumes messages until the shutdown stops it.
    pub async fn run(self, shutdown: Shutdown) -> Result<()> {
        let Shutdown { drain, stop } = shutdown.clone();
        let mut tasks = JoinSet::new();
        let grace = self.config.service.shutdown_timeout;
        let ready = Ready {
            database: DatabaseCheck::new(self.db.clone()),
            consumer: self.consumer.liveness(),
        };
        // The health checks are outside of the layers.
        let router = self.router.merge(health_routes(ready, drain));
        tasks.spawn(serve(self.listener, router, shutdown.clone(), grace));
        let (consumer, db, stopping) = (self.consumer, self.db.clone(), stop.clone());
        let kafka = self.config.service.kafka.clone();
        tasks.spawn(isolate(async move {
            let ready = async {
                ingestion::wait_for_schema(&db).await;
                kafka.create_topics(&consumer::TOPICS).await
            };
            match stopping.run_until_cancelled(ready).await {
                Some(ready) => ready?,
                None => return Ok(()),
            }
            consumer.run(stopping).await
        }));
        if let Some(faults) = self.faults {
            let (db, stopping) = (self.db.clone(), stop.clone());
            tasks.spawn(isolate(async move {
                let watching = async {
                    ingestion::wait_for_schema(&db).await;
                    faults.watch(db.clone()).await;
                };
                stopping.run_until_cancelled(watching).await;
                Ok(())
            }));
        }
        let ledger_retention = self.config.ledger_retention;
        let letter_retention = self.config.service.kafka.kafka_dead_letter_retention;
        let (db, stopping) = (self.db, stop.clone());
        tasks.spawn(isolate(async move {
            let pruning = async {
                ingestion::wait_for_schema(&db).await;
                join!(
                    ingestion::prune_ledger(&db, ledger_retention),
                    dead_letters::prune_handled(&db, letter_retention)
                );
            };
            stopping.run_until_cancelled(pruning).await;
            Ok(())
        }));
        supervise(tasks, shutdown, grace).await?;
        Ok(())
    }
}

/// Builds the service, prints its address, and runs it until the shutdown stops it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let format = config.service.telemetry.console_format();
    let app = App::build(config).await?;
    announce(app.address()?, format);
    app.run(shutdown).await
}
