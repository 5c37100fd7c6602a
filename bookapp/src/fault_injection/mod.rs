//! The API of the fault rules, which make requests and messages fail, for tests and demonstrations.
//!
//! This module stores the rules. `service_common::fault_injection` applies them in both services.

pub(crate) mod handlers;
mod repository;
mod rule;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, put},
};
use service_common::authorization::{AdminToken, authorize};

use crate::state::AppState;
pub(crate) use rule::{Fault, FaultRule, InvalidFault};

/// Returns the routes. Writes require the admin token, if one is set.
pub(crate) fn routes(token: AdminToken) -> Router<AppState> {
    Router::new()
        .route(
            "/",
            get(handlers::list)
                .post(handlers::add)
                .delete(handlers::clear),
        )
        .route("/{id}", put(handlers::change).delete(handlers::remove))
        .layer(from_fn_with_state(token, authorize))
}
