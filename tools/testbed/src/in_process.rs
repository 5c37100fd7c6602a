//! A service that runs in the process of a test.

use std::thread;

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgPool, query_scalar};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running service with a connection pool for its test. A test must [`finish`](Self::finish) it.
#[derive(Debug)]
pub struct InProcess {
    /// Connections to the service's database.
    pub pool: PgPool,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<()>>>,
}

impl InProcess {
    /// Starts `run`, which must end when its token is cancelled.
    #[expect(
        clippy::disallowed_methods,
        reason = "the task belongs to a test and not to a service"
    )]
    pub async fn start<F>(
        database_url: &str,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(stop.clone()));
        let pool = PgPool::connect(database_url).await?;
        Ok(Self {
            pool,
            stop,
            running: Some(running),
        })
    }

    /// Returns the number of rows in a table; `table` may have a condition.
    pub async fn count(&self, table: &str) -> Result<i64> {
        let count = query_scalar(AssertSqlSafe(format!("select count(*) from {table}")));
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// Stops the service as SIGTERM does, and fails if it ends with an error.
    pub async fn finish(mut self) -> Result<()> {
        self.stop.cancel();
        match self.running.take() {
            Some(running) => running.await?,
            None => Ok(()),
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        let unfinished = self.running.is_some() && !thread::panicking();
        assert!(
            !unfinished,
            "call `finish`: it checks that the service stops without an error"
        );
    }
}
