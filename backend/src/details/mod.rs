//! What the worker derived from books, and its HTTP API.

pub(crate) mod handlers;
pub mod repository;

use axum::{Router, routing::get};
use jiff::Timestamp;
use serde::Serialize;
use telemetry_common::db::Database;
use utoipa::ToSchema;

/// What was derived from one book as it was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Details {
    /// The book.
    pub book_id: i32,
    /// The title for a URL.
    #[schema(example = "the-lord-of-the-rings")]
    pub slug: String,
    /// The author's initials.
    #[schema(example = "JRRT")]
    pub initials: String,
    /// The title as a shelf sorts it, its article behind.
    #[schema(example = "Lord of the Rings, The")]
    pub sort_title: String,
    /// SHA-256 of title and author, in hex.
    pub checksum: String,
    /// When it was derived.
    pub derived_at: Timestamp,
}

pub(crate) fn routes(db: Database) -> Router {
    Router::new()
        .route("/details", get(handlers::list))
        .route("/details/{book_id}", get(handlers::get))
        .with_state(db)
}
