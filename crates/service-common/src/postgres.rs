//! The settings of PostgreSQL and the connection pool.

use std::{io::ErrorKind, str::FromStr, time::Duration};

use anyhow::{Result, anyhow};
use clap::{ArgAction, Args};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use telemetry_common::db::{Database, Limits};
use tokio::time::timeout;

/// The time limit for getting a connection from the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// The time limit for an answer of the server. The server cancels a statement earlier, so it is reached
/// only if the server is gone without a word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
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

/// Waits for an answer of the database. Fails if it does not arrive within `limit`.
///
/// Statements that create spans have a time limit of their own.
pub async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let answer = timeout(limit, answer).await;
    answer.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
}

/// Returns whether a statement that commits may have had its effect although it failed: the connection
/// was lost in the meantime.
pub fn is_outcome_unknown(error: &sqlx::Error) -> bool {
    match error {
        // Connecting failed.
        sqlx::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::NotFound | ErrorKind::HostUnreachable
        ),
        // The server may answer with these codes of SQLSTATE: transaction_resolution_unknown and
        // statement_completion_unknown.
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("08007" | "40003"))
        }
        sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
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
    pub database_max_connections: usize,

    /// Whether `pg_stat_activity.application_name` contains the trace id during a transaction. Before
    /// PostgreSQL 18, `pg_stat_statements` stores each of these statements as a different one.
    #[arg(long, env, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub database_trace_id_in_activity: bool,
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
        let limits = Limits {
            max_connections: self.database_max_connections,
            acquire_timeout: ACQUIRE_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
        };
        let options = self.options()?.options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
            // If a client host fails, PostgreSQL ends its sessions and releases its locks within
            // seconds.
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "10000"),
        ]);
        let db = Database::new(options, limits, application);
        Ok(db.with_trace_id_in_activity(self.database_trace_id_in_activity))
    }
}
