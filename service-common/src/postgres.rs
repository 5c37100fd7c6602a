//! The way to PostgreSQL.

use std::{str::FromStr, time::Duration};

use anyhow::{Result, anyhow};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use telemetry_common::db::Database;

/// How long a statement waits for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

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

    /// A pool that connects when it is first used.
    pub fn connect(&self, application: &str) -> Result<Database> {
        let pool = PgPoolOptions::new()
            .max_connections(self.database_max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT);
        Ok(Database::new(pool, self.options()?, application))
    }
}
