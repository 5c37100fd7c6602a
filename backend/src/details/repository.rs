//! The table `book_details`.

use sqlx::{query, query_as};
use telemetry_common::db::Session;

use super::Details;

/// Returns the details of these books, in the order of their ids.
pub async fn of_books<'c>(db: impl Session<'c>, ids: &[i32]) -> sqlx::Result<Vec<Details>> {
    query_as!(
        Details,
        r#"
        select book_id, slug, initials, sort_title, checksum,
               derived_at as "derived_at: jiff_sqlx::Timestamp"
        from book_details
        where book_id = any($1)
        order by book_id
        "#,
        ids
    )
    .fetch_all(db.on("SELECT", "book_details"))
    .await
}

/// Returns the details of one book, if there are any.
pub async fn of_book<'c>(db: impl Session<'c>, book_id: i32) -> sqlx::Result<Option<Details>> {
    query_as!(
        Details,
        r#"
        select book_id, slug, initials, sort_title, checksum,
               derived_at as "derived_at: jiff_sqlx::Timestamp"
        from book_details
        where book_id = $1
        "#,
        book_id
    )
    .fetch_optional(db.on("SELECT", "book_details"))
    .await
}

/// Stores the details of a book, derived from this version of it. Details of a newer version stay.
pub async fn put<'c>(
    db: impl Session<'c>,
    details: &Details,
    book_version: i32,
) -> sqlx::Result<()> {
    query!(
        r#"
        insert into book_details
            (book_id, slug, initials, sort_title, checksum, derived_at, book_version)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (book_id) do update
        set slug = excluded.slug,
            initials = excluded.initials,
            sort_title = excluded.sort_title,
            checksum = excluded.checksum,
            derived_at = excluded.derived_at,
            book_version = excluded.book_version
        where book_details.book_version <= excluded.book_version
        "#,
        details.book_id,
        details.slug,
        details.initials,
        details.sort_title,
        details.checksum,
        jiff_sqlx::Timestamp::from(details.derived_at) as _,
        book_version
    )
    .execute(db.on("INSERT", "book_details"))
    .await?;
    Ok(())
}

/// Deletes the details of a book.
pub async fn delete<'c>(db: impl Session<'c>, book_id: i32) -> sqlx::Result<()> {
    query!("delete from book_details where book_id = $1", book_id)
        .execute(db.on("DELETE", "book_details"))
        .await?;
    Ok(())
}
