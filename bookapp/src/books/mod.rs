//! Books: handlers (HTTP) → service (operations) → repository (SQL).

mod details;
pub(crate) mod handlers;
pub(crate) mod idempotency;
mod model;
mod repository;
mod service;
mod validation;

use axum::{
    Router,
    routing::{get, post},
};

use crate::state::AppState;
pub(crate) use model::{Book, BookPatch, BookStatus, NewBook, NewBooks};
pub(crate) use validation::Invalid;

pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(handlers::list))
        .route("/add", post(handlers::add))
        .route("/bulk_add", post(handlers::bulk_add))
        .route(
            "/{id}",
            get(handlers::get)
                .patch(handlers::change)
                .delete(handlers::remove),
        )
        .route("/{id}/details", get(handlers::details))
}
