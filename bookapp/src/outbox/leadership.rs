//! The leadership of the relay: an advisory lock, which PostgreSQL releases when the connection ends.

use std::{io::ErrorKind, time::Duration};

use telemetry_common::db::Connection;
use tokio::time::timeout;

use super::repository;

/// The key of the advisory lock of the relay. Nothing else in this database uses this key.
const LOCK: i64 = 0x0b00_4a99;
/// The time limit of a step that uses the connection. The server cancels a statement earlier, so it
/// is reached only if the server is gone without a word.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// The leadership, and the connection that holds it.
#[derive(Debug)]
pub(super) struct Leadership {
    pub(super) connection: Connection,
    /// Whether the last leader ended after the acknowledgements of all messages that it had sent.
    pub(super) predecessor_has_settled: bool,
}

impl Leadership {
    /// Tries to become the leader. Returns the connection while another instance is the leader.
    pub(super) async fn try_begin(
        mut connection: Connection,
    ) -> sqlx::Result<Result<Self, Connection>> {
        if !in_time(repository::try_lock(connection.untraced(), LOCK)).await? {
            return Ok(Err(connection));
        }
        let begin = repository::begin_leadership(connection.untraced());
        let predecessor_has_settled = in_time(begin).await?;
        Ok(Ok(Self {
            connection,
            predecessor_has_settled,
        }))
    }

    /// Ends the leadership, so that the next leader begins at once. All acknowledgements must have
    /// arrived.
    pub(super) async fn end(mut self) -> sqlx::Result<()> {
        in_time(repository::end_leadership(self.connection.untraced(), LOCK)).await
    }
}

/// Waits for a step that uses the connection. Fails if the server does not answer in time.
pub(super) async fn in_time<T>(step: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = timeout(STEP_TIMEOUT, step).await;
    answer.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
}
