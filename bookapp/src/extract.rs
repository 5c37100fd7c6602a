//! axum's extractors with this service's errors.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::ApiError;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let reading = axum::Json::from_request(request, state);
        let body = timeout(BODY_TIMEOUT, reading)
            .await
            .map_err(|_| ApiError::SlowBody)?;
        let axum::Json(value) = body?;
        Ok(Self(value))
    }
}

/// What the path holds.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

/// What the query string holds.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(pub(crate) T);
