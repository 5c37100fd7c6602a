//! Spans and metrics around sqlx on PostgreSQL.
//!
//! sqlx itself emits events after the fact, without a span. Here each statement goes through an
//! executor that is told the words of its summary, where the statement stands:
//!
//! ```text
//! query_as!(Book, "select … where id = $1", id).fetch_optional(db.on("SELECT", "books"))
//! ```
//!
//! [`Session::on`] is the same on a [`Database`] and in a [`Transaction`], so a repository
//! function serves both. Text, rows, address, failure and duration are recorded here, once.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/db/postgresql/>.

mod call;
mod connection;
mod executor;
mod pool;
mod transaction;

use std::sync::Arc;

use sqlx::{
    PgPool,
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

/// Where statements go, as their spans tell it.
#[derive(Debug)]
struct Target {
    /// `{database}|{schema}`.
    namespace: String,
    address: String,
    port: i64,
    application: String,
}

impl Database {
    /// A pool that connects when it is first used; `application` is what PostgreSQL calls us.
    pub fn new(pool: PgPoolOptions, options: PgConnectOptions, application: &str) -> Self {
        let database = options
            .get_database()
            .unwrap_or_else(|| options.get_username());
        let target = Target {
            namespace: format!("{database}|public"),
            address: options.get_host().to_owned(),
            port: i64::from(options.get_port()),
            application: application.to_owned(),
        };
        let pool = pool.connect_lazy_with(options.application_name(application));
        Self {
            pool: Pool::new(pool, application),
            target: Arc::new(target),
        }
    }

    /// The plain pool, for what shall leave no trace: migrations, health, polling.
    pub fn untraced(&self) -> &PgPool {
        &self.pool.inner
    }
}

/// Something statements run on: `&Database`, `&mut Transaction`, `&mut Connection`.
pub trait Session<'c>: Send {
    /// An executor for one statement; its span is named `{operation} {collection}`.
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c>;
}

impl<'c> Session<'c> for &'c Database {
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c> {
        TracedExecutor::new(Inner::Pool(&self.pool), &self.target, operation, collection)
    }
}
