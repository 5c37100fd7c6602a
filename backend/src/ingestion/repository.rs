//! The table `ledger` with the ids of ingested events, and the books.

use std::time::Duration;

use service_common::pruning::PRUNE_LIMIT;
use sqlx::{query, query_as, query_scalar};
use telemetry_common::db::{Database, Session};

/// The fields of a book from which details are derived, and its version.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) version: i32,
    pub(super) title: String,
    pub(super) author: String,
}

/// Inserts the id of an event. Returns `false` if the event was ingested before.
pub(super) async fn insert_event<'c>(db: impl Session<'c>, event_id: &str) -> sqlx::Result<bool> {
    let inserted = query!(
        "
        insert into ledger (event_id)
        values ($1)
        on conflict (event_id) do nothing
        ",
        event_id
    )
    .execute(db.on("INSERT", "ledger"))
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Deletes the ids of events that were processed more than `retention` ago, at most [`PRUNE_LIMIT`] and
/// none that another instance is deleting. Returns the number of deleted rows.
pub(super) async fn prune_ledger(db: &Database, retention: Duration) -> sqlx::Result<u64> {
    let pruned = query!(
        "
        delete from ledger
        where ctid = any(array(
            select ctid
            from ledger
            where processed_at < now() - make_interval(secs => $1)
            limit $2
            for update skip locked
        ))
        ",
        retention.as_secs_f64(),
        PRUNE_LIMIT.cast_signed()
    );
    let mut connection = db.untraced().await?;
    Ok(pruned.execute(&mut *connection).await?.rows_affected())
}

/// Returns the book, if it exists, and locks it: it cannot be removed until the transaction ends.
pub(super) async fn book<'c>(db: impl Session<'c>, id: i32) -> sqlx::Result<Option<Book>> {
    query_as!(
        Book,
        "
        select version, title, author
        from books
        where id = $1
        for key share
        ",
        id
    )
    .fetch_optional(db.on("SELECT", "books"))
    .await
}

/// Returns the version of the newest successful migration, or 0 if there is none.
pub(super) async fn schema_version(db: &Database) -> sqlx::Result<i64> {
    // Not checked at compile time, because sqlx creates this table.
    let version: Option<i64> =
        query_scalar("select max(version) from _sqlx_migrations where success")
            .fetch_one(&mut *db.untraced().await?)
            .await?;
    Ok(version.unwrap_or(0))
}
