//! What can go wrong in an answer: a status, a text that is safe to show, and the one log line.

use axum::{
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use service_common::{postgres::is_transient, problem::respond};
use sqlx::error::DatabaseError;
use telemetry_common::record_failure;

use crate::{books::Invalid, fault_injection::InvalidFault};

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// There is no such book.
    #[error("there is no book {id}")]
    NotFound { id: i32 },
    /// The worker has derived nothing from this book, yet or ever.
    #[error("there are no details of book {id}")]
    NoDetails { id: i32 },
    /// The path holds no id.
    #[error("there is nothing under this path")]
    Path(#[from] PathRejection),
    /// The query string is wrong.
    #[error("{0}")]
    Query(String),
    /// The body is no JSON, or not the JSON it should be.
    #[error("{}", .0.body_text())]
    Body(JsonRejection),
    /// The body did not come in time.
    #[error("the body took too long")]
    SlowBody,
    /// A field holds what it must not.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// A field of a fault rule holds what it must not.
    #[error("{0}")]
    InvalidFault(#[from] InvalidFault),
    /// There is no such rule.
    #[error("there is no rule {id}")]
    NoRule { id: i32 },
    /// There is such a rule already.
    #[error("there is a rule of this kind for this method and pattern already")]
    Duplicate,
    /// The database did not do its part.
    #[error("could not {action}")]
    Database {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The backend did not do its part.
    #[error("the backend did not answer")]
    Backend(#[source] backend_client::Error),
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Query(rejection.body_text())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body(rejection)
    }
}

impl ApiError {
    /// For `map_err`: what the database was asked to do.
    pub(crate) fn database(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { action, source }
    }

    /// For `map_err`: what was to be done with a fault rule.
    pub(crate) fn rule(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            let violation = source.as_database_error();
            if violation.is_some_and(DatabaseError::is_unique_violation) {
                Self::Duplicate
            } else {
                Self::Database { action, source }
            }
        }
    }

    /// Marks the current span as failed, where the failure is the server's.
    pub(crate) fn mark_span(&self) {
        if self.status().is_server_error() {
            let error_type = match self {
                Self::Database { .. } => "database",
                Self::Backend(_) => "backend",
                _ => "_OTHER",
            };
            record_failure(error_type, self);
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. }
            | Self::NoDetails { .. }
            | Self::NoRule { .. }
            | Self::Path(_) => StatusCode::NOT_FOUND,
            Self::Query(_) | Self::Invalid(_) | Self::InvalidFault(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Duplicate => StatusCode::CONFLICT,
            // Malformed 400, wrong type or missing field 422, media type 415, too large 413.
            Self::Body(rejection) => rejection.status(),
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Backend(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database { source, .. } if is_transient(source) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Database { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        respond(&self, self.status(), None)
    }
}
