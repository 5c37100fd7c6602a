//! What can go wrong in an answer: a status, a text that is safe to show, and the one log line.

use axum::{
    extract::rejection::{PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use service_common::{postgres::is_transient, problem::respond};

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nothing was derived from this book, yet or ever.
    #[error("there are no details of book {book_id}")]
    NotFound {
        /// The book.
        book_id: i32,
    },
    /// The path holds no id.
    #[error("there is nothing under this path")]
    Path(#[from] PathRejection),
    /// The query string is wrong.
    #[error("{0}")]
    Query(String),
    /// The database did not answer as it should.
    #[error("could not read details")]
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
