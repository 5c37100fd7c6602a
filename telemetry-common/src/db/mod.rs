//! Spans and metrics around sqlx on PostgreSQL.
//!
//! sqlx itself emits an event after each statement, and no span. Here each statement runs on an
//! executor that gets the operation and the table at the call site:
//!
//! ```text
//! query_as!(Book, "select … where id = $1", id).fetch_optional(db.on("SELECT", "books"))
//! ```
//!
//! [`Session::on`] works on a [`Database`] and in a [`Transaction`], so a repository function serves
//! both. Text, rows, server, failure and duration are recorded here.
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

/// A pool whose statements are spans.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    target: Arc<Target>,
}

/// The server and database that statements go to, as their spans record it.
#[derive(Debug)]
struct Target {
    /// `{database}|{schema}`.
    namespace: String,
    /// Host name, or the path of a Unix domain socket.
    address: String,
    /// `None` for a Unix domain socket.
    port: Option<i64>,
    /// What `application_name` begins with inside a transaction.
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

/// The first schema of the `search_path` among the connection's options, else PostgreSQL's default.
fn schema(options: &PgConnectOptions) -> String {
    let options = options.get_options().unwrap_or_default();
    let path = options.split("search_path=").nth(1).unwrap_or_default();
    let schema = path.split([',', ' ']).next().unwrap_or_default();
    match schema.trim_matches('"') {
        "" => "public".to_owned(),
        schema => schema.to_owned(),
    }
}

/// The application's name without quotes, and short enough: PostgreSQL cuts `application_name` after
/// 63 bytes, and a space and 32 digits of the trace id follow.
fn application_prefix(application: &str) -> String {
    const LONGEST: usize = 63 - 1 - 32;
    let mut prefix: String = application.chars().filter(|c| *c != '\'').collect();
    while prefix.len() > LONGEST {
        prefix.pop();
    }
    prefix
}

impl Database {
    /// A pool that connects at its first use; `application` is its `application_name`.
    ///
    /// sqlx's own log records of slow statements and slow acquisitions are switched off: spans and
    /// metrics carry the durations, and those records hold SQL in a deprecated attribute.
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

    /// The pool without spans, for migrations, health checks and polling.
    pub fn untraced(&self) -> &PgPool {
        &self.pool.inner
    }
}

/// What statements run on: `&Database`, `&mut Transaction`, `&mut Connection`.
pub trait Session<'c>: Send {
    /// An executor for one statement; its span is named `{operation} {collection}`.
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
