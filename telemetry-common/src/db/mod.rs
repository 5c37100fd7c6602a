//! Spans and metrics for sqlx statements on PostgreSQL.
//!
//! sqlx itself emits an event after each statement, and no span. Here each statement runs on an
//! executor, and the call site passes the operation and the table:
//!
//! ```no_run
//! # async fn example() -> sqlx::Result<()> {
//! use sqlx::query_scalar;
//! use telemetry_common::db::{Database, Limits, Session};
//!
//! let options = "postgres://localhost/shop".parse()?;
//! let db = Database::new(options, Limits::default(), "shop");
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

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use call::Statement;
pub(crate) use call::is_statement;
pub use connection::Connection;
use executor::Inner;
pub use executor::TracedExecutor;
use pool::Pool;
pub use pool::{Limits, PooledConnection};
pub use transaction::Transaction;

/// A connection pool whose statements create spans.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    target: Arc<Target>,
    /// Whether a transaction adds the trace id to `pg_stat_activity`.
    shows_trace_id: bool,
}

/// The server and the database, as the spans of the statements record them.
#[derive(Debug)]
struct Target {
    /// `{database}|{schema}`.
    namespace: Arc<str>,
    /// Host name, or the path of a Unix domain socket.
    address: Arc<str>,
    /// `None` for a Unix domain socket.
    port: Option<i64>,
    /// The prefix of `application_name` inside a transaction.
    application: String,
    /// Time limit for the answer to a statement.
    answer_timeout: Duration,
    /// By operation and table.
    statements: RwLock<HashMap<(&'static str, &'static str), Arc<Statement>>>,
}

impl Target {
    fn new(options: &PgConnectOptions, limits: Limits, application: &str) -> Self {
        let database = options
            .get_database()
            .unwrap_or_else(|| options.get_username());
        let socket = options.get_socket();
        Self {
            namespace: format!("{database}|{}", schema(options)).into(),
            address: socket.map_or_else(
                || options.get_host().into(),
                |path| path.display().to_string().into(),
            ),
            port: socket.is_none().then(|| i64::from(options.get_port())),
            application: application_prefix(application),
            answer_timeout: limits.answer_timeout,
            statements: RwLock::default(),
        }
    }

    /// Returns what the calls of `operation` on the table `collection` have in common.
    fn statement(&self, operation: &'static str, collection: &'static str) -> Arc<Statement> {
        let key = (operation, collection);
        let statements = self.statements.read();
        let statements = statements.unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = statements.get(&key) {
            return Arc::clone(statement);
        }
        drop(statements);
        let statement = Arc::new(Statement::new(self, operation, collection));
        let statements = self.statements.write();
        let mut statements = statements.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(statements.entry(key).or_insert(statement))
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
    /// It disables the log records of sqlx about statements: spans and metrics have the durations, and
    /// those records contain SQL in a deprecated attribute.
    pub fn new(options: PgConnectOptions, limits: Limits, application: &str) -> Self {
        let target = Target::new(&options, limits, application);
        let options = options
            .application_name(application)
            .disable_statement_logging();
        Self {
            pool: Pool::new(options, limits, application),
            target: Arc::new(target),
            shows_trace_id: false,
        }
    }

    /// Adds the trace id to `pg_stat_activity.application_name` during each transaction, so that an
    /// operator finds the trace of a session that waits or holds a lock.
    ///
    /// This needs no additional round trip. Before PostgreSQL 18, `pg_stat_statements` stores each
    /// of these statements as a different one.
    #[must_use]
    pub fn with_trace_id_in_activity(mut self, is_enabled: bool) -> Self {
        self.shows_trace_id = is_enabled;
        self
    }

    /// Returns how the connections of the pool are opened.
    pub fn options(&self) -> &PgConnectOptions {
        self.pool.options()
    }

    /// Returns a connection of the pool for statements that must not create spans, such as health
    /// checks and polling.
    pub async fn untraced(&self) -> sqlx::Result<PooledConnection> {
        self.pool.acquire_untraced().await
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
        TracedExecutor {
            inner: Inner::Pool(&self.pool),
            statement: self.target.statement(operation, collection),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, application: &str) -> Target {
        Target::new(&url.parse().unwrap(), Limits::default(), application)
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
        assert_eq!(&*other.namespace, "books|sales");
        let socket = PgConnectOptions::new().socket("/run/postgresql");
        let socket = Target::new(&socket, Limits::default(), "shop");
        assert_eq!((&*socket.address, socket.port), ("/run/postgresql", None));
    }

    #[test]
    fn an_application_name_neither_ends_the_string_nor_cuts_the_trace_id() {
        assert_eq!(target("postgres://u@db/b", "o'hara").application, "ohara");
        let long = target("postgres://u@db/b", &"ä".repeat(40)).application;
        assert_eq!(long.len(), 30);
    }
}
