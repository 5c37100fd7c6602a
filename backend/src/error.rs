//! The errors of the API. Each error determines the status and the detail of the response. Errors
//! with status 5xx are also logged, once.

use axum::{
    extract::rejection::{JsonRejection, PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use service_common::{postgres::is_transient, problem::respond};

/// The reason why a request failed. The message is the detail of the response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The worker has not derived details from this book.
    #[error("there are no details of book {book_id}")]
    NotFound {
        /// The id of the book.
        book_id: i32,
    },
    /// The id in the path is invalid.
    #[error("this path does not exist")]
    Path(#[from] PathRejection),
    /// The body is not JSON, or its JSON does not match the expected type.
    #[error("{}", .0.body_text())]
    Body(#[from] JsonRejection),
    /// The request has too many ids.
    #[error("book_ids: must be at most {max} ids")]
    TooManyIds { max: usize },
    /// Reading from the database failed.
    #[error("could not read the details")]
    Database(#[from] sqlx::Error),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::Path(_) => StatusCode::NOT_FOUND,
            // 400: malformed JSON; 413: too large; 415: wrong media type; 422: wrong type.
            Self::Body(rejection) => rejection.status(),
            Self::TooManyIds { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Database(error) if is_transient(error) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        respond(&self, self.status(), None)
    }
}
