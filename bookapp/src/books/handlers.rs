//! The HTTP handlers of the books. They validate the input, call the service and build the
//! response.

use axum::{
    Json,
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{LINK, LOCATION},
    },
    response::{AppendHeaders, IntoResponse},
};
use backend_client::types::Details;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Book, BookPatch, NewBook, NewBooks, idempotency::IdempotencyKey, service};
use crate::{error::ApiError, extract, openapi::ErrorResponse, state::AppState};

/// The maximum number of books in a page.
const MAX_LIMIT: i64 = 1000;

/// The requested page of the list of books.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Maximum number of books in the page.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: i64,
    /// The page starts after the book with this id.
    #[serde(default)]
    #[param(minimum = 0, default = 0)]
    after: i32,
}

fn default_limit() -> i64 {
    100
}

/// Add a book
///
/// A request that is repeated with the same Idempotency-Key within 24 hours adds no book, and returns the id
/// of the first one.
#[utoipa::path(post, path = "/books/add", tag = "books", params(IdempotencyKey),
    request_body = NewBook, responses(
    (status = 201, description = "The new book's id", body = i32,
        content_type = "application/json",
        headers(("location" = String, description = "Path of the book"))),
    ErrorResponse,
))]
pub(crate) async fn add(
    State(app): State<AppState>,
    key: IdempotencyKey,
    extract::Json(book): extract::Json<NewBook>,
) -> Result<impl IntoResponse, ApiError> {
    let id = service::add(&app, book.validated()?, key).await?;
    let location = AppendHeaders([(LOCATION, format!("/books/{id}"))]);
    Ok((StatusCode::CREATED, location, Json(id)))
}

/// Add several books
///
/// All books are added, or none. Idempotency-Key has the same meaning as for one book.
#[utoipa::path(post, path = "/books/bulk_add", tag = "books", params(IdempotencyKey),
    request_body = NewBooks, responses(
    (status = 201, description = "The new books' ids, in the order of the books", body = Vec<i32>),
    ErrorResponse,
))]
pub(crate) async fn bulk_add(
    State(app): State<AppState>,
    key: IdempotencyKey,
    extract::Json(books): extract::Json<NewBooks>,
) -> Result<impl IntoResponse, ApiError> {
    let ids = service::bulk_add(&app, books.validated()?, key).await?;
    Ok((StatusCode::CREATED, Json(ids)))
}

/// List books in the order of their ids
///
/// If there are more books, the response has a header `Link: …; rel="next"`.
#[utoipa::path(get, path = "/books", tag = "books", params(Page), responses(
    (status = 200, description = "A page of books", body = Vec<service::BookWithDetails>),
    ErrorResponse,
))]
pub(crate) async fn list(
    State(app): State<AppState>,
    extract::Query(Page { limit, after }): extract::Query<Page>,
) -> Result<impl IntoResponse, ApiError> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::Query(format!(
            "limit: must be from 1 to {MAX_LIMIT}"
        )));
    }
    if after < 0 {
        return Err(ApiError::Query("after: must be 0 or greater".to_owned()));
    }
    let (books, next) = service::list(&app, after, limit).await?;
    let link = next.map(|after| {
        let link = format!("</books?limit={limit}&after={after}>; rel=\"next\"");
        (
            LINK,
            HeaderValue::try_from(link).expect("the link is a valid header value"),
        )
    });
    Ok((AppendHeaders(link), Json(books)))
}

/// Read a book
#[utoipa::path(get, path = "/books/{id}", tag = "books", params(("id" = i32, Path)), responses(
    (status = 200, description = "The book", body = Book),
    ErrorResponse,
))]
pub(crate) async fn get(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<Json<Book>, ApiError> {
    service::get(&app, id).await.map(Json)
}

/// Change a book
#[utoipa::path(patch, path = "/books/{id}", tag = "books", params(("id" = i32, Path)),
    request_body = BookPatch, responses(
    (status = 200, description = "Number of changed books: 1", body = i64,
        content_type = "application/json"),
    ErrorResponse,
))]
pub(crate) async fn change(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
    extract::Json(patch): extract::Json<BookPatch>,
) -> Result<Json<u64>, ApiError> {
    service::change(&app, id, patch.validated()?)
        .await
        .map(Json)
}

/// Remove a book
#[utoipa::path(delete, path = "/books/{id}", tag = "books", params(("id" = i32, Path)), responses(
    (status = 200, description = "The book was removed"),
    ErrorResponse,
))]
pub(crate) async fn remove(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<(), ApiError> {
    service::remove(&app, id).await
}

/// Read the details that the worker derived from a book
#[utoipa::path(get, path = "/books/{id}/details", tag = "books", params(("id" = i32, Path)),
    responses(
    (status = 200, description = "The details", body = Object),
    ErrorResponse,
))]
pub(crate) async fn details(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<Json<Details>, ApiError> {
    service::details(&app, id).await.map(Json)
}
