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

use super::{Book, NewBook, service};
use crate::{app::AppState, error::ApiError, extract};

const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 1000;

/// Which part of the books is asked for.
#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default = "default_limit")]
    limit: i64,
    #[serde(default)]
    after: i32,
}

fn default_limit() -> i64 {
    DEFAULT_LIMIT
}

/// `POST /books/add`
pub(super) async fn add(
    State(app): State<AppState>,
    extract::Json(book): extract::Json<NewBook>,
) -> Result<impl IntoResponse, ApiError> {
    let id = service::add(&app, book.validated()?).await?;
    let location = AppendHeaders([(LOCATION, format!("/books/{id}"))]);
    Ok((StatusCode::CREATED, location, Json(id)))
}

/// `GET /books?limit=&after=`
pub(super) async fn list(
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

/// `GET /books/{id}`
pub(super) async fn get(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<Json<Book>, ApiError> {
    service::get(&app, id).await.map(Json)
}

/// `GET /books/{id}/details`
pub(super) async fn details(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<Json<Details>, ApiError> {
    service::details(&app, id).await.map(Json)
}
