//! Transactions: spans for BEGIN, COMMIT and ROLLBACK, and the trace id in `pg_stat_activity`.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _, SqlStr};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Database, Session, Target, TracedExecutor,
    call::Call,
    executor::Inner,
    pool::{PooledConnection, TEST_TIMEOUT},
};
use crate::trace_id;

/// A transaction whose statements create spans. Without [`commit`](Self::commit), it is rolled back
/// on drop.
///
/// ```no_run
/// # async fn example(db: &telemetry_common::db::Database) -> sqlx::Result<()> {
/// use sqlx::query;
/// use telemetry_common::db::Session;
///
/// let mut transaction = db.begin().await?;
/// let insert = query("insert into sales (book) values ($1)").bind(7);
/// insert.execute(transaction.on("INSERT", "sales")).await?;
/// transaction.commit().await
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction {
    /// `None` after the end.
    connection: Option<PooledConnection>,
    target: Arc<Target>,
}

impl Database {
    /// Begins a transaction.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        let mut call = Call::begin(self.target.statement("BEGIN", ""), None);
        let begun = self.begin_in(&mut call).await;
        call.finish(begun.as_ref());
        begun
    }

    async fn begin_in(&self, call: &mut Call) -> sqlx::Result<Transaction> {
        let connection = self.pool.acquire(call).await?;
        // From here on, a drop rolls back: this future may be dropped while the server begins.
        let mut transaction = Transaction {
            connection: Some(connection),
            target: Arc::clone(&self.target),
        };
        let begin = transaction.connection().execute(self.begin_statement());
        if let Err(error) = call.answer(begin).await {
            transaction.connection = None;
            return Err(error);
        }
        Ok(transaction)
    }

    fn begin_statement(&self) -> SqlStr {
        let Some(trace) = trace_id().filter(|_| self.shows_trace_id) else {
            return "BEGIN".into_sql_str();
        };
        // `application_prefix` has removed quotes and left space for the trace id. A comment with the
        // trace id in each statement would defeat the cache of prepared statements.
        let application = &self.target.application;
        AssertSqlSafe(format!(
            "BEGIN; SET LOCAL application_name = '{application} {trace}'"
        ))
        .into_sql_str()
    }
}

impl Transaction {
    /// Commits the transaction.
    ///
    /// If this fails because the connection is lost, it is not known whether the transaction is
    /// committed.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let mut call = Call::begin(self.target.statement("COMMIT", ""), None);
        let mut connection = self.connection.take().expect(IS_OPEN);
        let committed = call.answer(connection.execute("COMMIT")).await;
        if committed.is_ok() {
            connection.set_idle();
        }
        call.finish(committed.as_ref());
        committed.map(drop)
    }

    fn connection(&mut self) -> &mut PooledConnection {
        self.connection.as_mut().expect(IS_OPEN)
    }
}

/// `commit` and `drop` consume the transaction.
const IS_OPEN: &str = "the transaction has not ended";

impl Drop for Transaction {
    /// Rolls the transaction back in the background if it is not committed. The span has the time of
    /// the drop and almost no duration: a longer one would keep the span open in which the transaction
    /// began.
    fn drop(&mut self) {
        let (Some(connection), Ok(runtime)) = (self.connection.take(), Handle::try_current())
        else {
            return; // ended; or the program ends, which closes the connection
        };
        Call::begin(self.target.statement("ROLLBACK", ""), None).finish(Ok(&()));
        runtime.spawn(roll_back(connection));
    }
}

async fn roll_back(mut connection: PooledConnection) {
    match timeout(TEST_TIMEOUT, connection.execute("ROLLBACK")).await {
        Ok(Ok(_)) => connection.set_idle(),
        // The server rolls back when the connection is closed.
        _ => drop(connection.detach()),
    }
}

impl<'c> Session<'c> for &'c mut Transaction {
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c> {
        let connection = self.connection.as_mut().expect(IS_OPEN);
        TracedExecutor {
            inner: Inner::Connection(connection),
            statement: self.target.statement(operation, collection),
        }
    }
}
