//! The ledger of events, and the book an event is about.

use sqlx::{PgPool, query, query_as, query_scalar};
use telemetry_common::db::Session;

/// A book as it is read to describe it.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) title: String,
    pub(super) author: String,
}

/// Enters the event; `false` when it was entered before.
pub(super) async fn enter_in_ledger<'c>(
    db: impl Session<'c>,
    event_id: &str,
) -> sqlx::Result<bool> {
    let entered = query!(
        "
        insert into ledger (event_id)
        values ($1)
        on conflict (event_id) do nothing
        ",
        event_id
    )
    .execute(db.on("INSERT", "ledger"))
    .await?;
    Ok(entered.rows_affected() == 1)
}

/// The book, if it is still there; it stays until the transaction ends.
pub(super) async fn book<'c>(db: impl Session<'c>, id: i32) -> sqlx::Result<Option<Book>> {
    query_as!(
        Book,
        "
        select title, author
        from books
        where id = $1
        for key share
        ",
        id
    )
    .fetch_optional(db.on("SELECT", "books"))
    .await
}

/// The newest migration that was run; 0 where there is none.
pub(super) async fn schema_version(pool: &PgPool) -> sqlx::Result<i64> {
    // Not checked at compile time: the table is sqlx's own.
    let version: Option<i64> =
        query_scalar("select max(version) from _sqlx_migrations where success")
            .fetch_one(pool)
            .await?;
    Ok(version.unwrap_or(0))
}
