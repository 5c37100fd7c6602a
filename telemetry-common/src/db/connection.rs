//! A connection outside the pool, for locks that a session holds until its connection is closed.

use std::sync::Arc;

use sqlx::PgConnection;

use super::{Database, Session, Target, TracedExecutor, executor::Inner};

/// A connection outside the pool whose statements create spans. It is closed on drop.
#[derive(Debug)]
pub struct Connection {
    inner: PgConnection,
    target: Arc<Target>,
}

impl Connection {
    /// Returns the connection of sqlx, for statements that must not create spans.
    pub fn untraced(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}

impl Database {
    /// Takes a connection out of the pool, for locks that a session holds until its connection is
    /// closed. The pool can open another connection in its place.
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
