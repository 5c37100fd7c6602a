//! Spans and metrics for sqlx statements on PostgreSQL.
//!
//! sqlx itself emits an event after each statement, and no span. Here each statement runs on an
//! executor, and the call site passes the operation and the table:
//!
//! ```no_run
//! # async fn example() -> sqlx::Result<()> {
//! use sqlx::{postgres::PgPoolOptions, query_scalar};
//! use telemetry_common::db::{Database, Session};
//!
//! let options = "postgres://localhost/shop".parse()?;
//! let db = Database::new(PgPoolOptions::new(), options, "shop");
//! let price = query_scalar("select price from prices where id = $1").bind(7);
//! let price: Option<i32> = price.fetch_optional(db.on("SELECT", "prices")).await?;
//! # Ok(()) }
//! ```
//!
//! [`Session::on`] works on a [`Database`] and in a [`Transaction`], so one repository function can
//! use either. The executor records the SQL text, the number of rows, the server, the error and the
//! duration.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/db/postgresql/>.

mod call;
mod connection;
mod executor;
mod pool;
mod transaction;

use std::{sync::Arc, time::Duration};

use log::LevelFilter;
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use connection::Connection;
use executor::Inner;
pub use executor::TracedExecutor;
use pool::Pool;
pub use transaction::Transaction;

/// A connection pool whose statements create spans.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    target: Arc<Target>,
}

/// The server and the database, as the spans of the statements record them.
#[derive(Debug)]
struct Target {
    /// `{database}|{schema}`.
    namespace: String,
    /// Host name, or the path of a Unix domain socket.
    address: String,
    /// `None` for a Unix domain socket.
    port: Option<i64>,
    /// The prefix of `application_name` inside a transaction.
    application: String,
}

impl Target {
    fn new(options: &PgConnectOptions, application: &str) -> Self {
        let database = options
            .get_database()
            .unwrap_or_else(|| options.get_username());
        let socket = options.get_socket();
        Self {
            namespace: format!("{database}|{}", schema(options)),
            address: socket.map_or_else(
                || options.get_host().to_owned(),
                |path| path.display().to_string(),
            ),
            port: socket.is_none().then(|| i64::from(options.get_port())),
            application: application_prefix(application),
        }
    }
}

/// Returns the first schema of the `search_path` in the connection's options, else PostgreSQL's
/// default schema, `public`.
fn schema(options: &PgConnectOptions) -> String {
    let options = options.get_options().unwrap_or_default();
    let path = options.split("search_path=").nth(1).unwrap_or_default();
    let schema = path.split([',', ' ']).next().unwrap_or_default();
    match schema.trim_matches('"') {
        "" => "public".to_owned(),
        schema => schema.to_owned(),
    }
}

/// Returns the application's name without quotes, and truncated to 30 bytes. PostgreSQL truncates
/// `application_name` to 63 bytes, and a space and the trace id (32 digits) follow the prefix.
fn application_prefix(application: &str) -> String {
    const MAX_LENGTH: usize = 63 - 1 - 32;
    let mut prefix: String = application.chars().filter(|c| *c != '\'').collect();
    while prefix.len() > MAX_LENGTH {
        prefix.pop();
    }
    prefix
}

impl Database {
    /// Creates a pool that connects at its first use. `application` is the `application_name` of
    /// its connections and the `db.client.connection.pool.name` of its metrics.
    ///
    /// It disables the log records of sqlx for slow statements and slow acquisitions: spans and
    /// metrics have the durations, and those records contain SQL in a deprecated attribute.
    pub fn new(pool: PgPoolOptions, options: PgConnectOptions, application: &str) -> Self {
        let target = Target::new(&options, application);
        let options = options
            .application_name(application)
            .log_slow_statements(LevelFilter::Off, Duration::MAX);
        let pool = pool
            .acquire_slow_level(LevelFilter::Off)
            .connect_lazy_with(options);
        Self {
            pool: Pool::new(pool, application),
            target: Arc::new(target),
        }
    }

    /// Returns the pool of sqlx, which creates no spans, for health checks and polling.
    pub fn untraced(&self) -> &PgPool {
        &self.pool.inner
    }
}

/// Where statements can run: `&Database`, `&mut Transaction` and `&mut Connection`.
pub trait Session<'c>: Send {
    /// Returns an executor for one statement. `operation` is the SQL command, such as SELECT, and
    /// `collection` is the table. The span is named `{operation} {collection}`.
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c>;
}

impl<'c> Session<'c> for &'c Database {
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c> {
        TracedExecutor::new(Inner::Pool(&self.pool), &self.target, operation, collection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, application: &str) -> Target {
        Target::new(&url.parse().unwrap(), application)
    }

    #[test]
    fn a_target_names_schema_and_server() {
        let tcp = target("postgres://u@db:5433/books", "shop");
        assert_eq!((&*tcp.namespace, &*tcp.address), ("books|public", "db"));
        assert_eq!(tcp.port, Some(5433));
        let other = target(
            "postgres://u@db/books?options[search_path]=sales,public",
            "shop",
        );
        assert_eq!(other.namespace, "books|sales");
        let socket = PgConnectOptions::new().socket("/run/postgresql");
        let socket = Target::new(&socket, "shop");
        assert_eq!((&*socket.address, socket.port), ("/run/postgresql", None));
    }

    #[test]
    fn an_application_name_neither_ends_the_string_nor_cuts_the_trace_id() {
        assert_eq!(target("postgres://u@db/b", "o'hara").application, "ohara");
        let long = target("postgres://u@db/b", &"ä".repeat(40)).application;
        assert_eq!(long.len(), 30);
    }
}
