//! `GET /details?ids=1,2,3` and `GET /details/{book_id}`.

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

/// The most books one call may ask for.
const MAX_IDS: usize = 1000;

/// Which books are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Ids of books, separated by commas; at most 1000.
    #[param(example = "1,2,3")]
    ids: String,
}

/// The details of many books
///
/// In the order of their ids; a book without details is left out.
#[utoipa::path(get, path = "/details", operation_id = "list_details", tag = "details",
    params(Wanted), responses(
    (status = 200, description = "Those there are", body = Vec<Details>),
    (status = 422, description = "The ids are no ids, or too many"),
    (status = 503, description = "The database is away"),
))]
pub(crate) async fn list(
    State(db): State<Database>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<Details>>, ApiError> {
    let Query(Wanted { ids }) = wanted?;
    Ok(Json(repository::of_books(&db, &parse(&ids)?).await?))
}

/// The details of one book
#[utoipa::path(get, path = "/details/{book_id}", operation_id = "get_details", tag = "details",
    params(("book_id" = i32, Path, description = "The book")), responses(
    (status = 200, description = "What was derived from it", body = Details),
    (status = 404, description = "Nothing was derived from it, yet or ever"),
    (status = 503, description = "The database is away"),
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
    let ids = ids.map_err(|_| ApiError::Query("ids: numbers separated by commas".to_owned()))?;
    if ids.len() > MAX_IDS {
        return Err(ApiError::Query(format!("ids: at most {MAX_IDS}")));
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
