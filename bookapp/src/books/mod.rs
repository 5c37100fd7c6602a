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
        .route("/books", get(handlers::list))
        .route("/books/add", post(handlers::add))
        .route("/books/bulk_add", post(handlers::bulk_add))
        .route(
            "/books/{id}",
            get(handlers::get)
                .patch(handlers::change)
                .delete(handlers::remove),
        )
        .route("/books/{id}/details", get(handlers::details))
}
