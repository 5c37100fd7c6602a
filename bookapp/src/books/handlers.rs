//! From HTTP to the service and back; nothing is decided here but the shape of the answer.

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

use super::{Book, BookPatch, NewBook, NewBooks, service};
use crate::{error::ApiError, extract, openapi::Refusal, state::AppState};

const MAX_LIMIT: i64 = 1000;

/// Which part of the books is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many books at most.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: i64,
    /// The id after which the page begins.
    #[serde(default)]
    #[param(minimum = 0, default = 0)]
    after: i32,
}

fn default_limit() -> i64 {
    100
}

/// Add a book
#[utoipa::path(post, path = "/books/add", tag = "books", request_body = NewBook, responses(
    (status = 201, description = "The new book's id", body = i32,
        content_type = "application/json",
        headers(("location" = String, description = "Where the book is"))),
    Refusal,
))]
pub(crate) async fn add(
    State(app): State<AppState>,
    extract::Json(book): extract::Json<NewBook>,
) -> Result<impl IntoResponse, ApiError> {
    let id = service::add(&app, book.validated()?).await?;
    let location = AppendHeaders([(LOCATION, format!("/books/{id}"))]);
    Ok((StatusCode::CREATED, location, Json(id)))
}

/// Add many books
///
/// All or none of them.
#[utoipa::path(post, path = "/books/bulk_add", tag = "books",
    request_body = NewBooks, responses(
    (status = 201, description = "The new books' ids, in the order of the books", body = Vec<i32>),
    Refusal,
))]
pub(crate) async fn bulk_add(
    State(app): State<AppState>,
    extract::Json(books): extract::Json<NewBooks>,
) -> Result<impl IntoResponse, ApiError> {
    let ids = service::bulk_add(&app, books.validated()?).await?;
    Ok((StatusCode::CREATED, Json(ids)))
}

/// List books in the order of their ids
///
/// `Link: …; rel="next"` when there is more.
#[utoipa::path(get, path = "/books", tag = "books", params(Page), responses(
    (status = 200, description = "A page of books", body = Vec<service::BookWithDetails>),
    Refusal,
))]
pub(crate) async fn list(
    State(app): State<AppState>,
    extract::Query(Page { limit, after }): extract::Query<Page>,
) -> Result<impl IntoResponse, ApiError> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::Query(format!("limit: from 1 to {MAX_LIMIT}")));
    }
    if after < 0 {
        return Err(ApiError::Query("after: from 0".to_owned()));
    }
    let (books, next) = service::list(&app, after, limit).await?;
    let link = next.map(|after| {
        let link = format!("</books?limit={limit}&after={after}>; rel=\"next\"");
        (
            LINK,
            HeaderValue::try_from(link).expect("numbers make a header"),
        )
    });
    Ok((AppendHeaders(link), Json(books)))
}

/// Read a book
#[utoipa::path(get, path = "/books/{id}", tag = "books", params(("id" = i32, Path)), responses(
    (status = 200, description = "The book", body = Book),
    Refusal,
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
    (status = 200, description = "How many books were changed: 1", body = i64,
        content_type = "application/json"),
    Refusal,
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
    (status = 200, description = "It is gone"),
    Refusal,
))]
pub(crate) async fn remove(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<(), ApiError> {
    service::remove(&app, id).await
}

/// What the worker derived from a book
#[utoipa::path(get, path = "/books/{id}/details", tag = "books", params(("id" = i32, Path)),
    responses(
    (status = 200, description = "The details", body = Object),
    Refusal,
))]
pub(crate) async fn details(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<Json<Details>, ApiError> {
    service::details(&app, id).await.map(Json)
}
