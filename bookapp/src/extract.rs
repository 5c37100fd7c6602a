//! axum's extractors, with the errors of this service.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::ApiError;

/// The time limit for receiving a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The JSON body of a request.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let reading = axum::Json::from_request(request, state);
        let body = timeout(BODY_TIMEOUT, reading)
            .await
            .map_err(|_| ApiError::BodyTimeout)?;
        let axum::Json(value) = body?;
        Ok(Self(value))
    }
}

/// The parameters in the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

/// The parameters in the query string.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(pub(crate) T);
