//! The HTTP handlers of the fault rules.

use axum::{Json, extract::State, http::StatusCode};

use super::{Fault, FaultRule, repository};
use crate::{
    error::ApiError,
    extract,
    openapi::{ErrorResponse, Unauthorized},
    state::AppState,
};

/// List the fault rules
#[utoipa::path(get, path = "/error-injection", tag = "fault injection", responses(
    (status = 200, description = "All rules", body = Vec<FaultRule>),
    ErrorResponse,
))]
pub(crate) async fn list(State(app): State<AppState>) -> Result<Json<Vec<FaultRule>>, ApiError> {
    let rules = repository::all(&app.db).await;
    rules
        .map(Json)
        .map_err(ApiError::database("read the rules"))
}

/// Add a fault rule
#[utoipa::path(post, path = "/error-injection", tag = "fault injection", request_body = Fault, responses(
    (status = 200, description = "The stored rule", body = FaultRule),
    (status = 409, description = "The rule already exists, or there are 100 rules",
        body = service_common::problem::Problem, content_type = "application/problem+json"),
    ErrorResponse, Unauthorized,
))]
pub(crate) async fn add(
    State(app): State<AppState>,
    extract::Json(fault): extract::Json<Fault>,
) -> Result<Json<FaultRule>, ApiError> {
    let rule = repository::insert(&app.db, &fault.validated()?).await;
    let rule = rule.map_err(ApiError::rule("store the rule"))?;
    rule.map(Json).ok_or(ApiError::TooManyRules {
        max: repository::MAX_RULES,
    })
}

/// Replace a fault rule
#[utoipa::path(put, path = "/error-injection/{id}", tag = "fault injection", request_body = Fault,
    params(("id" = i32, Path, description = "Id of the rule")), responses(
    (status = 200, description = "The stored rule", body = FaultRule),
    (status = 409, description = "The rule already exists", body = service_common::problem::Problem,
        content_type = "application/problem+json"),
    ErrorResponse, Unauthorized,
))]
pub(crate) async fn change(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
    extract::Json(fault): extract::Json<Fault>,
) -> Result<Json<FaultRule>, ApiError> {
    let rule = repository::update(&app.db, id, &fault.validated()?).await;
    let rule = rule.map_err(ApiError::rule("change the rule"))?;
    rule.map(Json).ok_or(ApiError::NoRule { id })
}

/// Remove a fault rule
#[utoipa::path(delete, path = "/error-injection/{id}", tag = "fault injection",
    params(("id" = i32, Path, description = "Id of the rule")), responses(
    (status = 200, description = "The rule was removed"),
    ErrorResponse, Unauthorized,
))]
pub(crate) async fn remove(
    State(app): State<AppState>,
    extract::Path(id): extract::Path<i32>,
) -> Result<StatusCode, ApiError> {
    let removed = repository::delete(&app.db, id).await;
    match removed.map_err(ApiError::database("remove the rule"))? {
        0 => Err(ApiError::NoRule { id }),
        _ => Ok(StatusCode::OK),
    }
}

/// Remove all fault rules
#[utoipa::path(delete, path = "/error-injection", tag = "fault injection", responses(
    (status = 200, description = "Number of removed rules", body = u64),
    ErrorResponse, Unauthorized,
))]
pub(crate) async fn clear(State(app): State<AppState>) -> Result<Json<u64>, ApiError> {
    let removed = repository::clear(&app.db).await;
    removed
        .map(Json)
        .map_err(ApiError::database("remove the rules"))
}
