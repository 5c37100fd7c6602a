//! The HTTP API: stores books and publishes an event for each added book.
//!
//! Modules, in the order of a request:
//! - [`app`]: the routes and their layers
//! - `books`: handlers → service → repository
//! - [`outbox`]: the events to publish, and the relay that sends them to Kafka
//! - `error`: the errors of the API and their HTTP status codes
//! - `fault_injection`: the API of the fault rules
//! - `start_page`: the start page in the browser
//! - [`config`]: every setting
//! - `metrics`: the instruments

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

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use axum::Router;
use futures::future::join;
use service_common::{
    background::Background,
    fault_injection::FaultInjector,
    health::{DatabaseCheck, routes as health_routes},
    lifecycle::{Shutdown, announce, supervise},
    server::serve,
};
use sqlx::{Connection, PgConnection};
use telemetry_common::{db::Database, sentry::isolate, task::JoinSet};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{books::idempotency, config::Config, health::Ready, outbox::Relay, state::Shared};

/// The service, ready to run: its address is bound and its database is migrated.
pub struct App {
    listener: TcpListener,
    router: Router,
    relay: Relay,
    faults: Option<FaultInjector>,
    background: Background,
    db: Database,
    config: Config,
}

impl App {
    /// Migrates the database, binds the address and prepares the clients. Neither Kafka nor the
    /// backend has to be reachable yet.
    pub async fn build(config: Config) -> Result<Self> {
        let db = config.service.postgres.connect("bookapp")?;
        migrate(&config).await?;
        let listener = TcpListener::bind(config.service.listen_addr)
            .await
            .with_context(|| format!("could not listen on {}", config.service.listen_addr))?;
        let state = Arc::new(Shared::new(&config, db.clone())?);
        let relay = Relay::new(&config, db.clone(), state.outbox.clone(), &state.metrics);
        let is_enabled = config.service.fault_injection;
        let faults = is_enabled.then(|| FaultInjector::new("bookapp"));
        let background = state.background.clone();
        Ok(Self {
            listener,
            router: app::router(state, &config, faults.clone()),
            relay,
            faults,
            background,
            db,
            config,
        })
    }

    /// Returns the address on which the API listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves requests and relays the outbox until the shutdown stops it.
    pub async fn run(self, shutdown: Shutdown) -> Result<()> {
        let Shutdown { drain, stop } = shutdown.clone();
        let grace = self.config.service.shutdown_timeout;
        let mut tasks = JoinSet::new();
        let served = CancellationToken::new();
        let (stop_relay, stop_background) = (served.clone(), served.clone());
        let served_on_drop = served.drop_guard();
        let ready = Ready {
            database: DatabaseCheck::new(self.db.clone()),
            relay: self.relay.heartbeat(),
        };
        // The health checks are outside of the layers.
        let router = self.router.merge(health_routes(ready, drain.clone()));
        let serving = serve(self.listener, router, shutdown.clone(), grace);
        tasks.spawn(async move {
            let _served_on_drop = served_on_drop;
            serving.await
        });
        let relay = self.relay;
        tasks.spawn(isolate(async move {
            relay.run(drain, stop_relay).await;
            Ok(())
        }));
        let background = self.background;
        tasks.spawn(async move {
            stop_background.cancelled().await;
            background.finish().await;
            Ok(())
        });
        let (db, stopping) = (self.db.clone(), stop.clone());
        let retention = self.config.outbox_retention;
        tasks.spawn(isolate(async move {
            let pruning = join(
                idempotency::prune_keys(&db),
                outbox::prune_sent(&db, retention),
            );
            stopping.run_until_cancelled(pruning).await;
            Ok(())
        }));
        if let Some(faults) = self.faults {
            let (db, stopping) = (self.db, stop.clone());
            tasks.spawn(isolate(async move {
                stopping.run_until_cancelled(faults.watch(db)).await;
                Ok(())
            }));
        }
        supervise(tasks, shutdown, grace).await?;
        Ok(())
    }
}

/// Runs the migrations, one instance at a time: the others wait for the migrator's advisory lock.
///
/// Migrations that this binary does not know are accepted: a newer binary has made them, and this one must be
/// able to start beside it. So a migration only adds; what older binaries use is removed by a later release.
///
/// The connection is not from the pool, whose statement timeout may be too short for a migration.
pub async fn migrate(config: &Config) -> Result<()> {
    let migrate = async {
        let options = config.service.postgres.options()?;
        let mut connection = PgConnection::connect_with(&options).await?;
        let mut migrator = sqlx::migrate!("../migrations");
        migrator.set_ignore_missing(true);
        migrator.run(&mut connection).await?;
        connection.close().await?;
        anyhow::Ok(())
    };
    migrate.await.context("could not migrate the database")
}

/// Builds the service, prints its address, and runs it until the shutdown stops it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let format = config.service.telemetry.console_format();
    let app = App::build(config).await?;
    announce(app.address()?, format);
    app.run(shutdown).await
}
