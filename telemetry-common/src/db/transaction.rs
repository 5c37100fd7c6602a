//! Transactions: spans for BEGIN, COMMIT and ROLLBACK, and the trace id in `pg_stat_activity`.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr};
use tracing::Instrument;

use super::{Database, Inner, Session, Target, TracedExecutor, call::Call};
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
    /// `None` after the commit.
    inner: Option<sqlx::Transaction<'static, Postgres>>,
    target: Arc<Target>,
}

impl Database {
    /// Begins a transaction.
    ///
    /// During the transaction, `pg_stat_activity.application_name` ends with the trace id. This
    /// needs no additional round trip. A comment with the trace id in each statement would defeat
    /// the cache of prepared statements.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        let mut call = Call::begin(&self.target, "BEGIN", "");
        let application = &self.target.application;
        // `application_prefix` has removed quotes and left space for the trace id.
        let begin = trace_id().map(|trace| {
            AssertSqlSafe(format!(
                "BEGIN; SET LOCAL application_name = '{application} {trace}'"
            ))
            .into_sql_str()
        });
        let opened = async {
            let connection = self.pool.acquire(&call).await?;
            let begin = sqlx::Transaction::begin(connection, begin);
            begin.instrument(call.span.clone()).await
        }
        .await;
        call.finish(opened.as_ref());
        Ok(Transaction {
            inner: Some(opened?),
            target: Arc::clone(&self.target),
        })
    }
}

impl Transaction {
    /// Commits the transaction.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let Some(inner) = self.inner.take() else {
            unreachable!("`commit` consumes the transaction");
        };
        let mut call = Call::begin(&self.target, "COMMIT", "");
        let committed = inner.commit().instrument(call.span.clone()).await;
        call.finish(committed.as_ref());
        committed
    }
}

impl Drop for Transaction {
    /// Rolls the transaction back if it is not committed. sqlx sends ROLLBACK when the connection
    /// is next used, so the span has the time of the drop and almost no duration, even if the
    /// session has already ended.
    fn drop(&mut self) {
        if let Some(open) = self.inner.take() {
            let mut call = Call::begin(&self.target, "ROLLBACK", "");
            let _entered = call.span.clone().entered();
            drop(open);
            call.finish(Ok(&()));
        }
    }
}

impl<'c> Session<'c> for &'c mut Transaction {
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c> {
        let Some(inner) = &mut self.inner else {
            unreachable!("`commit` consumes the transaction");
        };
        TracedExecutor::new(
            Inner::Connection(inner),
            &self.target,
            operation,
            collection,
        )
    }
}
