//! The HTTP API: owns books, writes them, announces them.
//!
//! The map, in the order of a request: [`app`] (router and layers) → `books` (handlers → service →
//! repository) → [`outbox`] (what is announced, and the relay that sends it). `error` is what a
//! client is told when something is wrong, `fault_injection` failures on purpose, `start_page` the
//! front door in the browser, [`config`] every setting, `metrics` the instruments.

pub mod app;
mod books;
pub mod config;
mod error;
mod extract;
mod fault_injection;
mod health;
mod metrics;
pub mod openapi;
pub mod outbox;
mod start_page;
mod state;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use service_common::{
    fault_injection::FaultInjector,
    lifecycle::{announce, supervise},
    server::serve,
};
use sqlx::{Connection, PgConnection};
use telemetry_common::{db::Database, sentry::isolate};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, outbox::Relay, state::AppState};

/// The service, bound to its address, its database migrated.
pub struct App {
    listener: TcpListener,
    router: Router,
    relay: Relay,
    faults: FaultInjector,
    db: Database,
    config: Config,
}

impl App {
    /// Migrates the database, binds the address and prepares the clients; Kafka and the backend
    /// need not be there yet.
    pub async fn build(config: Config) -> Result<Self> {
        let db = config.service.postgres.connect("bookapp")?;
        migrate(&config)
            .await
            .context("could not migrate the database")?;
        let listener = TcpListener::bind(config.service.listen_addr)
            .await
            .with_context(|| format!("could not listen on {}", config.service.listen_addr))?;
        let state = AppState::new(&config, db.clone())?;
        let relay = Relay::new(&config, db.clone(), state.outbox.clone());
        let faults = state.faults.clone();
        Ok(Self {
            listener,
            router: app::router(state, &config),
            relay,
            faults,
            db,
            config,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves and relays until told to stop.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let grace = self.config.service.shutdown_timeout;
        let mut tasks = JoinSet::new();
        let served = CancellationToken::new();
        let (relaying, last_request) = (served.clone(), served.drop_guard());
        let serving = serve(self.listener, self.router, stop.clone(), grace);
        tasks.spawn(async move {
            let _last_request = last_request;
            serving.await
        });
        // The relay ends after the last request, and sends what that one left.
        let relay = self.relay;
        tasks.spawn(isolate(async move {
            relay.run(relaying).await;
            Ok(())
        }));
        let (faults, db, stopping) = (self.faults, self.db, stop.clone());
        tasks.spawn(isolate(async move {
            stopping.run_until_cancelled(faults.watch(db)).await;
            Ok(())
        }));
        supervise(tasks, stop, grace).await?;
        Ok(())
    }
}

/// On a connection of its own, for a migration may take longer than a request: one instance at a
/// time, the others wait for the migrator's advisory lock.
async fn migrate(config: &Config) -> Result<()> {
    let mut connection = PgConnection::connect_with(&config.service.postgres.options()?).await?;
    sqlx::migrate!("../migrations").run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Builds the service, says where it listens, and runs it until told to stop.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    let format = config.service.telemetry.console_format();
    let app = App::build(config).await?;
    announce(app.address()?, format);
    app.run(stop).await
}
