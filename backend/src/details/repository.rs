//! The table `book_details`.

use sqlx::{query, query_as};
use telemetry_common::db::Session;

use super::{Derived, Details};

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

/// Stores details, in the order of the ids of their books. Details of a newer version stay.
pub(crate) async fn put<'c>(db: impl Session<'c>, derived: &[Derived]) -> sqlx::Result<()> {
    let all = || derived.iter().map(|one| &one.details);
    let book_ids: Vec<_> = all().map(|details| details.book_id).collect();
    let slugs: Vec<_> = all().map(|details| details.slug.clone()).collect();
    let initials: Vec<_> = all().map(|details| details.initials.clone()).collect();
    let sort_titles: Vec<_> = all().map(|details| details.sort_title.clone()).collect();
    let checksums: Vec<_> = all().map(|details| details.checksum.clone()).collect();
    let derived_at: Vec<_> = all()
        .map(|details| jiff_sqlx::Timestamp::from(details.derived_at))
        .collect();
    let versions: Vec<_> = derived.iter().map(|one| one.book_version).collect();
    query!(
        r#"
        insert into book_details
            (book_id, slug, initials, sort_title, checksum, derived_at, book_version)
        select *
        from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::int4[])
        on conflict (book_id) do update
        set slug = excluded.slug,
            initials = excluded.initials,
            sort_title = excluded.sort_title,
            checksum = excluded.checksum,
            derived_at = excluded.derived_at,
            book_version = excluded.book_version
        where book_details.book_version <= excluded.book_version
        "#,
        &book_ids,
        &slugs,
        &initials,
        &sort_titles,
        &checksums,
        &derived_at as _,
        &versions
    )
    .execute(db.on("INSERT", "book_details"))
    .await?;
    Ok(())
}

/// Deletes the details of books.
pub(crate) async fn delete<'c>(db: impl Session<'c>, book_ids: &[i32]) -> sqlx::Result<()> {
    query!("delete from book_details where book_id = any($1)", book_ids)
        .execute(db.on("DELETE", "book_details"))
        .await?;
    Ok(())
}
