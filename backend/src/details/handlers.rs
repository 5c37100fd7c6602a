//! The HTTP handlers of `GET /details?ids=1,2,3` and `GET /details/{book_id}`.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use serde::Deserialize;
use telemetry_common::db::Database;
use utoipa::IntoParams;

use super::{Details, repository};
use crate::error::ApiError;

/// The maximum number of ids in one request.
const MAX_IDS: usize = 1000;

/// The query string of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Ids of books, separated by commas. At most 1000 ids.
    #[param(example = "1,2,3")]
    ids: String,
}

/// List the details of several books
///
/// The details are in the order of the ids. Books without details are omitted.
#[utoipa::path(get, path = "/details", operation_id = "list_details", tag = "details",
    params(ListQuery), responses(
    (status = 200, description = "The details that exist", body = Vec<Details>),
    (status = 422, description = "The ids are invalid, or there are too many"),
    (status = 503, description = "The database is not available"),
))]
pub(crate) async fn list(
    State(db): State<Database>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Vec<Details>>, ApiError> {
    let Query(ListQuery { ids }) = query?;
    Ok(Json(repository::of_books(&db, &parse(&ids)?).await?))
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

fn parse(ids: &str) -> Result<Vec<i32>, ApiError> {
    let ids: Result<Vec<i32>, _> = ids
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::parse)
        .collect();
    let ids =
        ids.map_err(|_| ApiError::Query("ids: must be integers separated by commas".to_owned()))?;
    if ids.len() > MAX_IDS {
        return Err(ApiError::Query(format!(
            "ids: must be at most {MAX_IDS} ids"
        )));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_and_not_too_many() {
        assert_eq!(parse("3,1,2").unwrap(), [3, 1, 2]);
        assert_eq!(parse("").unwrap(), [0_i32; 0]);
        assert!(parse("1,two").is_err());
        assert!(parse("2147483648").is_err());
        assert!(parse(&vec!["1"; MAX_IDS].join(",")).is_ok());
        assert!(parse(&vec!["1"; MAX_IDS + 1].join(",")).is_err());
    }
}
