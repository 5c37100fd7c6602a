//! Books: what they are, and the API to them.

mod details;
mod handlers;
mod repository;
mod service;

use axum::{
    Router,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use crate::app::AppState;

/// The longest title or author, in characters.
const MAX_TEXT: usize = 500;

/// A stored book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Book {
    pub(crate) id: i32,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) status: BookStatus,
}

/// Where a book is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "book_status", rename_all = "lowercase")]
pub(crate) enum BookStatus {
    #[default]
    Available,
    Borrowed,
    Lost,
}

/// A book to be added, its texts checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct NewBook {
    pub(crate) title: String,
    pub(crate) author: String,
    #[serde(default)]
    pub(crate) status: BookStatus,
}

/// A text that cannot be a title or author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{field}: must not be blank")]
    Blank { field: &'static str },
    #[error("{field}: at most {MAX_TEXT} characters")]
    TooLong { field: &'static str },
    #[error("{field}: must not contain the character NUL")]
    Nul { field: &'static str },
}

impl NewBook {
    pub(crate) fn validated(self) -> Result<Self, Invalid> {
        check("title", &self.title)?;
        check("author", &self.author)?;
        Ok(self)
    }
}

fn check(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::Blank { field });
    }
    if text.chars().count() > MAX_TEXT {
        return Err(Invalid::TooLong { field });
    }
    if text.contains('\0') {
        return Err(Invalid::Nul { field });
    }
    Ok(())
}

pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(handlers::list))
        .route("/add", post(handlers::add))
        .route("/{id}", get(handlers::get))
        .route("/{id}/details", get(handlers::details))
}
