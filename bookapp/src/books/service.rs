//! The operations on books. Each change and its event are committed in one transaction.

use backend_client::types::Details;
use book_events::{BOOK_ID, BookEvent, Change};
use serde::Serialize;
use telemetry_common::{RequestId, db::Transaction};
use tracing::{Span, field::Empty, info, instrument};
use utoipa::ToSchema;

use super::{
    Book, BookPatch, NewBook, details,
    idempotency::{Claim, IdempotencyKey, KeyedRequest},
    repository,
};
use crate::{error::ApiError, metrics::AddedBy, outbox, state::AppState};

/// A book in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BookWithDetails {
    #[serde(flatten)]
    book: Book,
    /// Null if there are no details yet, or if the backend is not available.
    #[schema(value_type = Option<Object>)]
    details: Option<Details>,
}

/// Adds a book and its event. Returns the id of the book without waiting for Kafka.
#[instrument(name = "books.add", skip_all, fields({ BOOK_ID } = Empty))]
pub(crate) async fn add(
    app: &AppState,
    book: NewBook,
    key: IdempotencyKey,
) -> Result<i32, ApiError> {
    let books = [book];
    let request = key.of("/books/add", &books);
    let [book] = &books;
    let inserted = insert_with_event(app, book, request)
        .await
        .map_err(|error| error.into_api_error("add the book"))
        .inspect_err(ApiError::mark_span)?;
    let id = inserted.ids[0];
    Span::current().record(BOOK_ID, id);
    if !inserted.is_repeated {
        app.outbox.wake();
        app.metrics.books_added(1, AddedBy::Single);
        info!(name: "bookapp.book.added", { { BOOK_ID } = id }, "book {id} added");
    }
    Ok(id)
}

/// Adds books and an event for each of them. Returns the ids in the order of the books.
#[instrument(name = "books.bulk_add", skip_all, fields(bookapp.books.count = books.len().cast_signed() as i64))]
pub(crate) async fn bulk_add(
    app: &AppState,
    books: Vec<NewBook>,
    key: IdempotencyKey,
) -> Result<Vec<i32>, ApiError> {
    let request = key.of("/books/bulk_add", &books);
    let Inserted { ids, is_repeated } = insert_all_with_events(app, &books, request)
        .await
        .map_err(|error| error.into_api_error("add the books"))
        .inspect_err(ApiError::mark_span)?;
    if !is_repeated {
        app.outbox.wake();
        app.metrics.books_added(ids.len(), AddedBy::Bulk);
        info!(
            name: "bookapp.books.added",
            { bookapp.books.count = ids.len().cast_signed() as i64 },
            "{} books added",
            ids.len()
        );
    }
    Ok(ids)
}

/// Books that were inserted.
struct Inserted {
    ids: Vec<i32>,
    /// Whether an earlier request with the same key has inserted them.
    is_repeated: bool,
}

/// The reason why nothing was written, or may not have been.
enum WriteError {
    KeyReused,
    /// A statement failed, so nothing happened.
    Statement(sqlx::Error),
    Commit(sqlx::Error),
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(error)
    }
}

impl WriteError {
    fn into_api_error(self, action: &'static str) -> ApiError {
        match self {
            Self::KeyReused => ApiError::KeyReused,
            Self::Statement(error) => ApiError::database(action)(error),
            Self::Commit(error) => ApiError::commit(action)(error),
        }
    }
}

async fn insert_with_event(
    app: &AppState,
    book: &NewBook,
    request: Option<KeyedRequest>,
) -> Result<Inserted, WriteError> {
    let mut tx = app.db.begin().await?;
    if let Some(repeated) = claim(&mut tx, request.as_ref()).await? {
        return Ok(repeated);
    }
    let id = repository::insert(&mut tx, book).await?;
    outbox::enqueue(&mut tx, &BookEvent::added(id, request_id())).await?;
    commit(tx, request, vec![id]).await
}

async fn insert_all_with_events(
    app: &AppState,
    books: &[NewBook],
    request: Option<KeyedRequest>,
) -> Result<Inserted, WriteError> {
    let mut tx = app.db.begin().await?;
    if let Some(repeated) = claim(&mut tx, request.as_ref()).await? {
        return Ok(repeated);
    }
    let ids = repository::insert_all(&mut tx, books).await?;
    let events: Vec<_> = ids
        .iter()
        .map(|id| BookEvent::added(*id, request_id()))
        .collect();
    outbox::enqueue_all(&mut tx, &events).await?;
    commit(tx, request, ids).await
}

/// Claims the key of a request that has one. Returns the books if the request is a repetition.
async fn claim(
    tx: &mut Transaction,
    request: Option<&KeyedRequest>,
) -> Result<Option<Inserted>, WriteError> {
    let Some(request) = request else {
        return Ok(None);
    };
    match request.claim(tx).await? {
        Claim::First => Ok(None),
        Claim::Repeated(ids) => Ok(Some(Inserted {
            ids,
            is_repeated: true,
        })),
        Claim::Reused => Err(WriteError::KeyReused),
    }
}

/// Stores the response of a request with a key, and commits.
async fn commit(
    mut tx: Transaction,
    request: Option<KeyedRequest>,
    ids: Vec<i32>,
) -> Result<Inserted, WriteError> {
    if let Some(request) = request {
        request.store(&mut tx, &ids).await?;
    }
    tx.commit().await.map_err(WriteError::Commit)?;
    Ok(Inserted {
        ids,
        is_repeated: false,
    })
}

fn request_id() -> String {
    RequestId::current()
        .unwrap_or_else(RequestId::generate)
        .to_string()
}

/// Returns a page of books with ids greater than `after`, with their details. Also returns the
/// value of `after` for the next page, if there is one.
pub(crate) async fn list(
    app: &AppState,
    after: i32,
    limit: i64,
) -> Result<(Vec<BookWithDetails>, Option<i32>), ApiError> {
    // One extra book shows whether there is a next page.
    let mut books = repository::list(&app.db, after, limit + 1)
        .await
        .map_err(ApiError::database("list the books"))?;
    let full = usize::try_from(limit).is_ok_and(|limit| {
        let full = books.len() > limit;
        books.truncate(limit);
        full
    });
    let next = books.last().map(|book| book.id).filter(|_| full);
    let ids: Vec<i32> = books.iter().map(|book| book.id).collect();
    let mut details = details::of_books(app, &ids).await;
    let books = books
        .into_iter()
        .map(|book| BookWithDetails {
            details: details.remove(&book.id),
            book,
        })
        .collect();
    Ok((books, next))
}

/// Returns one book.
pub(crate) async fn get(app: &AppState, id: i32) -> Result<Book, ApiError> {
    let book = repository::get(&app.db, id)
        .await
        .map_err(ApiError::database("read the book"))?;
    book.ok_or(ApiError::NotFound { id })
}

/// Changes a book. Returns the number of changed books.
#[instrument(name = "books.change", skip_all, fields({ BOOK_ID } = id))]
pub(crate) async fn change(app: &AppState, id: i32, patch: BookPatch) -> Result<u64, ApiError> {
    update_with_event(app, id, &patch)
        .await
        .map_err(|error| error.into_api_error("change the book"))
        .inspect_err(ApiError::mark_span)?
        .ok_or(ApiError::NotFound { id })?;
    app.outbox.wake();
    info!(name: "bookapp.book.changed", { { BOOK_ID } = id }, "book {id} changed");
    Ok(1)
}

/// Removes a book. The worker removes its details.
#[instrument(name = "books.remove", skip_all, fields({ BOOK_ID } = id))]
pub(crate) async fn remove(app: &AppState, id: i32) -> Result<(), ApiError> {
    delete_with_event(app, id)
        .await
        .map_err(|error| error.into_api_error("remove the book"))
        .inspect_err(ApiError::mark_span)?
        .ok_or(ApiError::NotFound { id })?;
    app.outbox.wake();
    info!(name: "bookapp.book.removed", { { BOOK_ID } = id }, "book {id} removed");
    Ok(())
}

/// Returns `None` if the book does not exist.
async fn update_with_event(
    app: &AppState,
    id: i32,
    patch: &BookPatch,
) -> Result<Option<()>, WriteError> {
    let mut tx = app.db.begin().await?;
    let version = repository::update(&mut tx, id, patch).await?;
    commit_with_event(tx, Change::Changed, id, version).await
}

/// Returns `None` if the book does not exist.
async fn delete_with_event(app: &AppState, id: i32) -> Result<Option<()>, WriteError> {
    let mut tx = app.db.begin().await?;
    let version = repository::delete(&mut tx, id).await?;
    commit_with_event(tx, Change::Removed, id, version).await
}

/// Inserts the event of a change and commits both. `version` is the version of the book since the change,
/// or `None` if there is no such book: then nothing happens, and it returns `None`.
async fn commit_with_event(
    mut tx: Transaction,
    change: Change,
    id: i32,
    version: Option<i32>,
) -> Result<Option<()>, WriteError> {
    let Some(version) = version else {
        return Ok(None);
    };
    let event = BookEvent::now(change, id, version, request_id());
    outbox::enqueue(&mut tx, &event).await?;
    tx.commit().await.map_err(WriteError::Commit)?;
    Ok(Some(()))
}

/// Returns the details that the worker derived from one book.
pub(crate) async fn details(app: &AppState, id: i32) -> Result<Details, ApiError> {
    let details = details::of_book(&app.backend, id)
        .await
        .map_err(ApiError::Backend)?;
    details.ok_or(ApiError::NoDetails { id })
}
