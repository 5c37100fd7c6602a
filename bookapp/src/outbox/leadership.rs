//! The leadership of the relay: an advisory lock, which PostgreSQL releases when the connection ends.
//!
//! A leader that loses its connection may still be sending messages. A row says whether the last one
//! has settled: whether it ended after the acknowledgements of all messages that it had sent.

use std::time::Duration;

use service_common::postgres::in_time;
use telemetry_common::db::Connection;

use super::repository;

/// The key of the advisory lock of the relay. Nothing else in this database uses this key.
const LOCK: i64 = 0x0b00_4a99;
/// The time limit of a statement without a span on the leader's connection. The server cancels a
/// statement earlier, so it is reached only if the server is gone without a word.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries to become the leader. Returns `false` while another instance is the leader.
pub(super) async fn try_acquire(connection: &mut Connection) -> sqlx::Result<bool> {
    let connection = connection.untraced();
    in_time(ANSWER_TIMEOUT, repository::try_lock(connection, LOCK)).await
}

/// Returns whether the last leader has settled.
pub(super) async fn predecessor_has_settled(connection: &mut Connection) -> sqlx::Result<bool> {
    let connection = connection.untraced();
    in_time(ANSWER_TIMEOUT, repository::has_settled(connection)).await
}

/// Says that this leader sends messages from now on.
pub(super) async fn begin(connection: &mut Connection) -> sqlx::Result<()> {
    let connection = connection.untraced();
    in_time(ANSWER_TIMEOUT, repository::set_settled(connection, false)).await
}

/// Ends the leadership, so that the next leader begins at once. All acknowledgements must have
/// arrived.
pub(super) async fn end(connection: &mut Connection) -> sqlx::Result<()> {
    let connection = connection.untraced();
    in_time(ANSWER_TIMEOUT, repository::set_settled(connection, true)).await?;
    in_time(ANSWER_TIMEOUT, repository::unlock(connection, LOCK)).await
}
