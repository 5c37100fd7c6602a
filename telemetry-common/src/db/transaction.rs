//! BEGIN and COMMIT as spans, and the trace's id where a database administrator looks for it.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Postgres};
use tracing::Instrument;

use super::{Database, Inner, Session, Target, Traced, call::Call};
use crate::trace_id;

/// A transaction whose statements are spans; dropped without [`commit`](Self::commit) it is
/// rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: sqlx::Transaction<'static, Postgres>,
    target: Arc<Target>,
}

impl Database {
    /// Begins a transaction.
    ///
    /// Within it `pg_stat_activity.application_name` ends in the trace's id: one round trip, and
    /// gone with the transaction. A comment in each statement would do the same and spoil the
    /// cache of prepared statements.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        let mut call = Call::begin(&self.target, "BEGIN", "");
        let application = &self.target.application;
        let inner = async {
            match trace_id() {
                Some(trace) => {
                    let begin =
                        format!("BEGIN; SET LOCAL application_name = '{application} {trace}'");
                    self.pool.begin_with(AssertSqlSafe(begin)).await
                }
                None => self.pool.begin().await,
            }
        }
        .instrument(call.span.clone())
        .await;
        call.ended(inner.as_ref());
        Ok(Transaction {
            inner: inner?,
            target: Arc::clone(&self.target),
        })
    }
}

impl Transaction {
    /// Commits.
    pub async fn commit(self) -> sqlx::Result<()> {
        let mut call = Call::begin(&self.target, "COMMIT", "");
        let committed = self.inner.commit().instrument(call.span.clone()).await;
        call.ended(committed.as_ref());
        committed
    }
}

impl<'c> Session<'c> for &'c mut Transaction {
    fn on(self, operation: &'static str, collection: &'static str) -> Traced<'c> {
        Traced::new(
            Inner::Connection(&mut self.inner),
            &self.target,
            operation,
            collection,
        )
    }
}
