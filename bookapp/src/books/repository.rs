//! The table `books`.

use sqlx::{query_as, query_scalar};
use telemetry_common::db::Session;

use super::{Book, BookStatus, NewBook};

/// Stores a book and answers its id.
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

/// At most `limit` books after the id `after`, in the order of their ids.
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

/// One book, if there is one.
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
