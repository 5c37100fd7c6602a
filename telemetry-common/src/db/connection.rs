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
    /// Opens a connection outside the pool, for locks that a session holds until its connection is
    /// closed, and for work that must not wait for the pool.
    pub async fn connect(&self) -> sqlx::Result<Connection> {
        Ok(Connection {
            inner: self.pool.connect().await?,
            target: Arc::clone(&self.target),
        })
    }
}

impl<'c> Session<'c> for &'c mut Connection {
    fn on(self, operation: &'static str, collection: &'static str) -> TracedExecutor<'c> {
        TracedExecutor {
            inner: Inner::Connection(&mut self.inner),
            statement: self.target.statement(operation, collection),
        }
    }
}
