//! The errors of the API. Each error determines the status and the detail of the response. Errors
//! with status 5xx are also logged, once.

use axum::{
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use service_common::{
    postgres::{is_outcome_unknown, is_transient},
    problem::respond,
};
use sqlx::error::DatabaseError;
use telemetry_common::record_failure;

use crate::{books::Invalid, fault_injection::InvalidFault};

/// The reason why a request failed. The message is the detail of the response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The book does not exist.
    #[error("there is no book {id}")]
    NotFound { id: i32 },
    /// The worker has not derived details from this book.
    #[error("there are no details of book {id}")]
    NoDetails { id: i32 },
    /// A path parameter is invalid.
    #[error("this path does not exist")]
    Path(#[from] PathRejection),
    /// The query string is invalid.
    #[error("{0}")]
    Query(String),
    /// The body is not JSON, or its JSON does not match the expected type.
    #[error("{}", .0.body_text())]
    Body(JsonRejection),
    /// The body did not arrive in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The value of a field is invalid.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The value of a field of a fault rule is invalid.
    #[error("{0}")]
    InvalidFault(#[from] InvalidFault),
    /// The `Idempotency-Key` is invalid.
    #[error("Idempotency-Key: must be 1 to 255 visible ASCII characters")]
    Key,
    /// The `Idempotency-Key` belongs to another request.
    #[error("Idempotency-Key: was used for another request")]
    KeyReused,
    /// The fault rule does not exist.
    #[error("there is no fault rule {id}")]
    NoRule { id: i32 },
    /// The fault rule already exists.
    #[error("a fault rule of this kind already exists for this service, method and pattern")]
    Duplicate,
    /// There are too many fault rules.
    #[error("there are {max} fault rules, remove one first")]
    TooManyRules { max: i64 },
    /// A database operation failed.
    #[error("could not {action}")]
    Database {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The connection was lost during a write, so it may have had its effect.
    #[error("it is not known whether this request had its effect")]
    Unknown(#[source] sqlx::Error),
    /// A request to the backend failed.
    #[error("the request to the backend failed")]
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
    /// Returns a function for `map_err` that converts a database error. `action` completes the
    /// message "could not …".
    pub(crate) fn database(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { action, source }
    }

    /// Returns a function for `map_err` like [`database`](Self::database), for a statement that commits:
    /// if the connection was lost, its outcome is not known.
    pub(crate) fn commit(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            if is_outcome_unknown(&source) {
                Self::Unknown(source)
            } else {
                Self::Database { action, source }
            }
        }
    }

    /// Returns a function for `map_err` like [`database`](Self::database). A violated unique
    /// constraint means that the fault rule already exists.
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

    /// Records this error on the current span if its status is 5xx.
    pub(crate) fn mark_span(&self) {
        if self.status().is_server_error() {
            let error_type = match self {
                Self::Database { .. } | Self::Unknown(_) => "database",
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
            Self::Query(_)
            | Self::Invalid(_)
            | Self::InvalidFault(_)
            | Self::Key
            | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Duplicate | Self::TooManyRules { .. } => StatusCode::CONFLICT,
            // 400: malformed JSON; 413: too large; 415: wrong media type; 422: wrong type, missing
            // field.
            Self::Body(rejection) => rejection.status(),
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unknown(_) => StatusCode::GATEWAY_TIMEOUT,
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
