//! The way to PostgreSQL.

use std::{str::FromStr, time::Duration};

use anyhow::{Result, anyhow};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use telemetry_common::db::Database;

/// How long a statement waits for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// For how long a connection may have been idle and still be trusted without a question. A server
/// that restarts under load fails as many statements as it would anyway, and at most one more for
/// each connection.
const TRUSTED: Duration = Duration::from_secs(1);

/// How long a statement may run, in milliseconds.
const STATEMENT_TIMEOUT: &str = "5000";
/// How long a statement may wait for a lock, in milliseconds.
const LOCK_TIMEOUT: &str = "2000";

/// Whether another try may go well: no connection to be had, or PostgreSQL's own trouble.
pub fn is_transient(error: &sqlx::Error) -> bool {
    // Connection, authorization, no such database, serialization, resources, locks and states,
    // operator, system: none of them says that the work is wrong.
    const CLASSES: [&str; 8] = ["08", "28", "3D", "40", "53", "55", "57", "58"];
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| CLASSES.iter().any(|class| code.starts_with(class))),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Where PostgreSQL is.
#[derive(Args, Clone, Debug)]
pub struct PostgresConfig {
    /// PostgreSQL connection string.
    #[arg(
        long,
        env,
        hide_env_values = true,
        default_value = "postgres://postgres@127.0.0.1:5432/books",
        value_name = "URL"
    )]
    pub database_url: SecretString,

    /// The most connections the pool opens.
    #[arg(long, env, default_value_t = 10, value_name = "N")]
    pub database_max_connections: u32,
}

impl PostgresConfig {
    /// The connection string, understood.
    ///
    /// It is parsed here and not by the command line, whose messages repeat what they refuse.
    pub fn options(&self) -> Result<PgConnectOptions> {
        PgConnectOptions::from_str(self.database_url.expose_secret())
            .map_err(|_| anyhow!("DATABASE_URL is not a PostgreSQL connection string"))
    }

    /// A pool that connects when it is first used; the server ends a statement that takes too long.
    pub fn connect(&self, application: &str) -> Result<Database> {
        let pool = PgPoolOptions::new()
            .max_connections(self.database_max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Asking each time is a round trip for every statement outside a transaction.
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(
                    async move { Ok(state.idle_for < TRUSTED || connection.ping().await.is_ok()) },
                )
            });
        let options = self.options()?.options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
            // A host that is gone loses its sessions, and with them its locks, within seconds.
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
        ]);
        Ok(Database::new(pool, options, application))
    }
}
