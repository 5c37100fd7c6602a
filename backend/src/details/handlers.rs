//! The HTTP handlers of `POST /details/search` and `GET /details/{book_id}`.

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
};
use serde::Deserialize;
use telemetry_common::db::Database;
use utoipa::ToSchema;

use super::{Details, repository};
use crate::error::ApiError;

/// The maximum number of ids in one request.
const MAX_IDS: usize = 1000;

/// The books whose details are requested. The ids are in the body, because a query string with 1000 ids
/// is longer than many proxies accept.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Search {
    /// Ids of books, at most 1000.
    #[schema(max_items = 1000)]
    book_ids: Vec<i32>,
}

/// List the details of several books
///
/// The details are in the order of the ids of the books. Books without details are omitted.
#[utoipa::path(post, path = "/details/search", operation_id = "search_details", tag = "details",
    request_body = Search, responses(
    (status = 200, description = "The details that exist", body = Vec<Details>),
    (status = 422, description = "The ids are invalid, or there are too many"),
    (status = 503, description = "The database is not available"),
))]
pub(crate) async fn search(
    State(db): State<Database>,
    search: Result<Json<Search>, JsonRejection>,
) -> Result<Json<Vec<Details>>, ApiError> {
    let Json(Search { book_ids }) = search?;
    if book_ids.len() > MAX_IDS {
        return Err(ApiError::TooManyIds { max: MAX_IDS });
    }
    Ok(Json(repository::of_books(&db, &book_ids).await?))
}

/// Read the details of one book
#[utoipa::path(get, path = "/details/{book_id}", operation_id = "get_details", tag = "details",
    params(("book_id" = i32, Path, description = "Id of the book")), responses(
    (status = 200, description = "The details of the book", body = Details),
    (status = 404, description = "The book has no details"),
    (status = 503, description = "The database is not available"),
))]
pub(crate) async fn get(
    State(db): State<Database>,
    book_id: Result<Path<i32>, PathRejection>,
) -> Result<Json<Details>, ApiError> {
    let Path(book_id) = book_id?;
    let details = repository::of_book(&db, book_id).await?;
    details.map(Json).ok_or(ApiError::NotFound { book_id })
}
