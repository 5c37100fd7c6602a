//! The table `books`.

use sqlx::{query_as, query_scalar};
use telemetry_common::db::Session;

use super::{Book, BookPatch, BookStatus, NewBook};

/// Inserts a book. Returns its id.
pub(super) async fn insert<'c>(db: impl Session<'c>, book: &NewBook) -> sqlx::Result<i32> {
    query_scalar!(
        r#"
        insert into books (title, author, status)
        values ($1, $2, $3)
        returning id
        "#,
        book.title,
        book.author,
        book.status as BookStatus
    )
    .fetch_one(db.on("INSERT", "books"))
    .await
}

/// Inserts books. Returns their ids in the order of the books.
pub(super) async fn insert_all<'c>(
    db: impl Session<'c>,
    books: &[NewBook],
) -> sqlx::Result<Vec<i32>> {
    let titles: Vec<_> = books.iter().map(|book| book.title.clone()).collect();
    let authors: Vec<_> = books.iter().map(|book| book.author.clone()).collect();
    let statuses: Vec<_> = books.iter().map(|book| book.status).collect();
    query_scalar!(
        r#"
        insert into books (title, author, status)
        select title, author, status
        from unnest($1::text[], $2::text[], $3::book_status[])
            with ordinality as book (title, author, status, position)
        order by position
        returning id
        "#,
        &titles,
        &authors,
        &statuses as &[BookStatus]
    )
    .fetch_all(db.on("INSERT", "books"))
    .await
}

/// Updates the fields that the patch contains. Returns the new version of the book, if the book exists.
pub(super) async fn update<'c>(
    db: impl Session<'c>,
    id: i32,
    patch: &BookPatch,
) -> sqlx::Result<Option<i32>> {
    query_scalar!(
        r#"
        update books
        set title = coalesce($2, title),
            author = coalesce($3, author),
            status = coalesce($4, status),
            version = version + 1
        where id = $1
        returning version
        "#,
        id,
        patch.title,
        patch.author,
        patch.status as Option<BookStatus>
    )
    .fetch_optional(db.on("UPDATE", "books"))
    .await
}

/// Deletes a book. Returns the version that the removal gives it, if the book exists.
pub(super) async fn delete<'c>(db: impl Session<'c>, id: i32) -> sqlx::Result<Option<i32>> {
    query_scalar!(
        r#"
        delete from books
        where id = $1
        returning version + 1 as "version!"
        "#,
        id
    )
    .fetch_optional(db.on("DELETE", "books"))
    .await
}

/// Returns at most `limit` books with ids greater than `after`, in the order of their ids.
pub(super) async fn list<'c>(
    db: impl Session<'c>,
    after: i32,
    limit: i64,
) -> sqlx::Result<Vec<Book>> {
    query_as!(
        Book,
        r#"
        select id, title, author, status as "status: BookStatus"
        from books
        where id > $1
        order by id
        limit $2
        "#,
        after,
        limit
    )
    .fetch_all(db.on("SELECT", "books"))
    .await
}

/// Returns a book, if it exists.
pub(super) async fn get<'c>(db: impl Session<'c>, id: i32) -> sqlx::Result<Option<Book>> {
    query_as!(
        Book,
        r#"
        select id, title, author, status as "status: BookStatus"
        from books
        where id = $1
        "#,
        id
    )
    .fetch_optional(db.on("SELECT", "books"))
    .await
}
