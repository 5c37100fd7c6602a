//! The baseline of `cargo xtask bench`: bookapp's routes with axum and sqlx only.
//!
//! It has the same routes and the same queries, but no telemetry, no layers, no validation and no
//! relay. `GET /books` reads the details from the database; bookapp requests them from backend. The
//! database must already be migrated.
#![expect(
    clippy::print_stdout,
    reason = "the benchmark waits for the address on stdout"
)]
#![expect(clippy::disallowed_methods, reason = "two settings, read once")]

use std::{collections::HashMap, env};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use book_events::{BOOK_EVENTS, BookEvent};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{FromRow, PgPool, query, query_as, query_scalar, types::Json as Jsonb};
use tokio::net::TcpListener;

#[derive(Serialize, FromRow)]
struct Book {
    id: i32,
    title: String,
    author: String,
    status: Status,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "book_status", rename_all = "lowercase")]
enum Status {
    #[default]
    Available,
    Borrowed,
    Lost,
}

#[derive(Deserialize)]
struct NewBook {
    title: String,
    author: String,
    #[serde(default)]
    status: Status,
}

#[derive(Serialize, FromRow)]
struct Details {
    book_id: i32,
    slug: String,
    initials: String,
    sort_title: String,
    checksum: String,
    #[sqlx(try_from = "jiff_sqlx::Timestamp")]
    derived_at: jiff::Timestamp,
}

#[derive(Serialize)]
struct BookWithDetails {
    #[serde(flatten)]
    book: Book,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Page {
    limit: i64,
}

type ApiResult<T> = Result<T, (StatusCode, String)>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let db = PgPool::connect(&env::var("DATABASE_URL")?).await?;
    let listener = TcpListener::bind(env::var("LISTEN_ADDR")?).await?;
    println!("listening on {}", listener.local_addr()?);
    let books = Router::new()
        .route("/books", get(list))
        .route("/books/{id}", get(read))
        .route("/books/add", post(add))
        .with_state(db);
    Ok(axum::serve(listener, books).await?)
}

async fn read(State(db): State<PgPool>, Path(id): Path<i32>) -> ApiResult<Json<Book>> {
    let book = query_as("select id, title, author, status from books where id = $1");
    let book = book
        .bind(id)
        .fetch_optional(&db)
        .await
        .map_err(|error| internal_error(&error))?;
    let not_found = || (StatusCode::NOT_FOUND, "no such book".to_owned());
    book.map(Json).ok_or_else(not_found)
}

async fn list(
    State(db): State<PgPool>,
    Query(Page { limit }): Query<Page>,
) -> ApiResult<Json<Vec<BookWithDetails>>> {
    let books = "select id, title, author, status from books where id > $1 order by id limit $2";
    let books = query_as(books).bind(0).bind(limit + 1);
    let mut books: Vec<Book> = books
        .fetch_all(&db)
        .await
        .map_err(|error| internal_error(&error))?;
    books.truncate(usize::try_from(limit).unwrap_or(0));
    let ids: Vec<_> = books.iter().map(|book| book.id).collect();
    let details = "select book_id, slug, initials, sort_title, checksum, derived_at
        from book_details where book_id = any($1) order by book_id";
    let details = query_as(details).bind(ids).fetch_all(&db).await;
    let details: Vec<Details> = details.map_err(|error| internal_error(&error))?;
    let details = details.into_iter().map(|found| (found.book_id, found));
    let mut details: HashMap<_, _> = details.collect();
    let books = books.into_iter().map(|book| BookWithDetails {
        details: details.remove(&book.id),
        book,
    });
    Ok(Json(books.collect()))
}

async fn add(
    State(db): State<PgPool>,
    Json(book): Json<NewBook>,
) -> ApiResult<(StatusCode, Json<i32>)> {
    let added = add_and_enqueue(&db, &book)
        .await
        .map_err(|error| internal_error(&error))?;
    Ok((StatusCode::CREATED, Json(added)))
}

async fn add_and_enqueue(db: &PgPool, book: &NewBook) -> sqlx::Result<i32> {
    let mut tx = db.begin().await?;
    let id = "insert into books (title, author, status) values ($1, $2, $3) returning id";
    let id = query_scalar(id).bind(&book.title).bind(&book.author);
    let id = id.bind(book.status).fetch_one(&mut *tx).await?;
    let event = BookEvent::added(id, "none".to_owned());
    let outbox = "insert into outbox (event_id, topic, key, payload, headers)
        select event_id, topic, key, payload, headers
        from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[])
            with ordinality as row (event_id, topic, key, payload, headers, position)
        order by position";
    let outbox = query(outbox).bind([event.event_id.to_string()]);
    let outbox = outbox.bind([BOOK_EVENTS]).bind([id.to_string()]);
    let outbox = outbox.bind([Jsonb(&event)]);
    let headers = Jsonb(json!({"content-type": "application/json"}));
    outbox.bind([headers]).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(id)
}

fn internal_error(error: &sqlx::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
