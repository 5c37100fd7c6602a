//! The details that the worker derived from books, and their HTTP API.

pub(crate) mod handlers;
pub mod repository;

use axum::{
    Router,
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Serialize;
use telemetry_common::db::Database;
use utoipa::ToSchema;

/// The details that the worker derived from a book. They follow each change of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Details {
    /// Id of the book.
    pub book_id: i32,
    /// The title in a form for URLs.
    #[schema(example = "the-lord-of-the-rings")]
    pub slug: String,
    /// The author's initials.
    #[schema(example = "JRRT")]
    pub initials: String,
    /// The title for sorting, with its article at the end.
    #[schema(example = "Lord of the Rings, The")]
    pub sort_title: String,
    /// SHA-256 of title and author, in hexadecimal.
    pub checksum: String,
    /// Time at which the details were derived.
    pub derived_at: Timestamp,
}

/// Details that were derived from this version of a book.
pub(crate) struct Derived {
    pub(crate) details: Details,
    pub(crate) book_version: i32,
}

pub(crate) fn routes(db: Database) -> Router {
    Router::new()
        .route("/details/search", post(handlers::search))
        .route("/details/{book_id}", get(handlers::get))
        .with_state(db)
}
