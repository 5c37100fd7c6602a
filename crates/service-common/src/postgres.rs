//! The settings of PostgreSQL and the connection pool.

use std::{str::FromStr, time::Duration};

use anyhow::{Result, anyhow};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use telemetry_common::db::Database;
use tokio::time::timeout;

/// The time limit for acquiring a connection from the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// The idle time from which on a connection is tested before its use. After a restart of the
/// server, at most one statement per connection fails because the connection was not tested.
const MAX_UNTESTED_IDLE: Duration = Duration::from_secs(1);

/// The time limit of a connection test. A connection to a host that is gone does not answer.
const TEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The time limit of a statement, in milliseconds.
const STATEMENT_TIMEOUT: &str = "5000";
/// The time limit of a statement for acquiring a lock, in milliseconds.
const LOCK_TIMEOUT: &str = "2000";

/// Returns whether a retry may succeed: there is no connection, or PostgreSQL itself has a problem.
pub fn is_transient(error: &sqlx::Error) -> bool {
    // SQLSTATE classes: connection, authorization, invalid catalog name, transaction rollback,
    // insufficient resources, object state and locks, operator intervention, system error. In these
    // classes, the statement itself is not the cause.
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

/// The settings of PostgreSQL.
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

    /// Maximum number of connections in the pool.
    #[arg(long, env, default_value_t = 10, value_name = "N")]
    pub database_max_connections: u32,
}

impl PostgresConfig {
    /// Parses the connection string.
    ///
    /// The command line does not parse it, because error messages of clap repeat the rejected
    /// value, which contains the password.
    pub fn options(&self) -> Result<PgConnectOptions> {
        PgConnectOptions::from_str(self.database_url.expose_secret())
            .map_err(|_| anyhow!("DATABASE_URL is not a PostgreSQL connection string"))
    }

    /// Returns a pool that connects at its first use. The server cancels statements that exceed the
    /// timeouts.
    pub fn connect(&self, application: &str) -> Result<Database> {
        let pool = PgPoolOptions::new()
            .max_connections(self.database_max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Testing every time costs a round trip for each statement outside of a transaction.
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    let is_fresh = state.idle_for < MAX_UNTESTED_IDLE;
                    let test = async { timeout(TEST_TIMEOUT, connection.ping()).await };
                    Ok(is_fresh || matches!(test.await, Ok(Ok(()))))
                })
            });
        let options = self.options()?.options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
            // If a client host fails, PostgreSQL ends its sessions and releases its locks within
            // seconds.
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
        ]);
        Ok(Database::new(pool, options, application))
    }
}
