//! Pruning of tables: rows whose time is over are deleted, so that no table grows without end.

use std::time::Duration;

use telemetry_common::{exception, semconv};
use tokio::time::sleep;
use tracing::info;

use crate::postgres::in_time;

/// The maximum number of rows that one statement deletes.
pub const PRUNE_LIMIT: u64 = 10_000;
/// The interval of pruning.
const INTERVAL: Duration = Duration::from_mins(1);
/// The time limit for an answer of the database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Prunes `table` as long as it runs: once a minute, and again at once until fewer than [`PRUNE_LIMIT`]
/// rows are deleted. `delete` deletes at most so many rows and returns their number. Several instances
/// may share the work.
pub async fn prune<F: Future<Output = sqlx::Result<u64>> + Send>(
    table: &'static str,
    delete: impl Fn() -> F,
) {
    loop {
        // On the heap, because a future that may open a connection is large.
        match in_time(ANSWER_TIMEOUT, Box::pin(delete())).await {
            Ok(0) => {}
            Ok(pruned) => {
                info!(
                    name: "bookapp.rows.pruned",
                    { { semconv::DB_COLLECTION_NAME } = table },
                    "{pruned} rows of {table} pruned"
                );
                if pruned == PRUNE_LIMIT {
                    continue;
                }
            }
            Err(error) => {
                exception!(
                    warn,
                    "bookapp.rows.prune.failed",
                    &error,
                    { { semconv::DB_COLLECTION_NAME } = table },
                    "{table} was not pruned"
                );
            }
        }
        sleep(INTERVAL).await;
    }
}
