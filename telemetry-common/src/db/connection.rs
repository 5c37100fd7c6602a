//! A connection outside the pool, for a lock that lives as long as the connection.

use std::sync::Arc;

use sqlx::PgConnection;

use super::{Database, Session, Target, TracedExecutor, executor::Inner};

/// A connection of its own whose statements are spans; closed on drop.
#[derive(Debug)]
pub struct Connection {
    inner: PgConnection,
    target: Arc<Target>,
}

impl Connection {
    /// The plain connection, for what shall leave no trace.
    pub fn untraced(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}

impl Database {
    /// A connection outside the pool, for a lock that lives as long as it does.
    pub async fn detached(&self) -> sqlx::Result<Connection> {
        let inner = self.pool.inner.acquire().await?.detach();
        Ok(Connection {
            inner,
            target: Arc::clone(&self.target),
        })
    }
}

impl<'c> Session<'c> for &'c mut Connection {
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c> {
        TracedExecutor::new(
            Inner::Connection(&mut self.inner),
            &self.target,
            operation,
            collection,
        )
    }
}
