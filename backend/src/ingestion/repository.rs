//! The table `ledger` with the ids of ingested events, and the books.

use std::time::Duration;

use service_common::pruning::PRUNE_LIMIT;
use sqlx::{query, query_as, query_scalar};
use telemetry_common::db::{Database, Session};

/// The fields of a book from which details are derived, its id and its version.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) id: i32,
    pub(super) version: i32,
    pub(super) title: String,
    pub(super) author: String,
}

/// Inserts the ids of events. Returns those of events that were not ingested before, each once.
///
/// The ids should be sorted: two transactions that insert the same ids in another order would be a
/// deadlock.
pub(super) async fn insert_events<'c>(
    db: impl Session<'c>,
    event_ids: &[String],
) -> sqlx::Result<Vec<String>> {
    query_scalar!(
        "
        insert into ledger (event_id)
        select unnest($1::text[])
        on conflict (event_id) do nothing
        returning event_id
        ",
        event_ids
    )
    .fetch_all(db.on("INSERT", "ledger"))
    .await
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

/// Returns the books that exist, in the order of their ids, and locks them: they cannot be removed until
/// the transaction ends.
pub(super) async fn books<'c>(db: impl Session<'c>, ids: &[i32]) -> sqlx::Result<Vec<Book>> {
    query_as!(
        Book,
        "
        select id, version, title, author
        from books
        where id = any($1)
        order by id
        for key share
        ",
        ids
    )
    .fetch_all(db.on("SELECT", "books"))
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
