//! The errors of the API. Each error determines the status and the detail of the response. Errors
//! with status 5xx are also logged, once.

use axum::{
    extract::rejection::{PathRejection, QueryRejection},
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
    /// The query string is invalid.
    #[error("{0}")]
    Query(String),
    /// Reading from the database failed.
    #[error("could not read the details")]
    Database(#[from] sqlx::Error),
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Query(rejection.body_text())
    }
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::Path(_) => StatusCode::NOT_FOUND,
            Self::Query(_) => StatusCode::UNPROCESSABLE_ENTITY,
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
