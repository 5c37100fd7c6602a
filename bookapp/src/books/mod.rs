//! Books: what they are, and the API to them.

mod details;
pub(crate) mod handlers;
mod repository;
mod service;

use axum::{
    Router,
    routing::{get, post},
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};

use crate::app::AppState;

/// The longest title or author, in characters.
const MAX_TEXT: usize = 500;

/// The most books one call may add.
const MAX_BULK: usize = 1000;

/// A stored book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Book {
    pub(crate) id: i32,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) status: BookStatus,
}

/// Where a book is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema,
)]
#[serde(rename_all = "lowercase", try_from = "String")]
#[sqlx(type_name = "book_status", rename_all = "lowercase")]
pub(crate) enum BookStatus {
    #[default]
    Available,
    Borrowed,
    Lost,
}

/// By way of a text: read directly, a number or null would count as malformed JSON.
impl TryFrom<String> for BookStatus {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match &*text {
            "available" => Ok(Self::Available),
            "borrowed" => Ok(Self::Borrowed),
            "lost" => Ok(Self::Lost),
            _ => Err("expected available, borrowed or lost"),
        }
    }
}

/// A book to be added.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) struct NewBook {
    /// Not blank, without the character NUL.
    #[schema(schema_with = text)]
    pub(crate) title: String,
    /// Not blank, without the character NUL.
    #[schema(schema_with = text)]
    pub(crate) author: String,
    #[serde(default)]
    #[schema(default = "available")]
    pub(crate) status: BookStatus,
}

/// Books to be added, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
pub(crate) struct NewBooks(Vec<NewBook>);

/// What of a book is to be changed; what is absent is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) struct BookPatch {
    /// Not blank, without the character NUL.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(schema_with = text)]
    pub(crate) title: Option<String>,
    /// Not blank, without the character NUL.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(schema_with = text)]
    pub(crate) author: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = BookStatus, required = false)]
    pub(crate) status: Option<BookStatus>,
}

/// What [`check`] accepts, as a schema says it.
fn text() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(MAX_TEXT))
        .pattern(Some(r"^[^\u0000]*[^\s\u0000][^\u0000]*$"))
        .build()
}

/// An absent field is `None`; one that is there must not be null.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// A text that cannot be a title or author, or too many books.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{field}: must not be blank")]
    Blank { field: &'static str },
    #[error("{field}: at most {MAX_TEXT} characters")]
    TooLong { field: &'static str },
    #[error("{field}: must not contain the character NUL")]
    Nul { field: &'static str },
    #[error("[{index}].{source}")]
    Element { index: usize, source: Box<Invalid> },
    #[error("from 1 to {MAX_BULK} books, not {count}")]
    Count { count: usize },
}

impl NewBook {
    pub(crate) fn validated(self) -> Result<Self, Invalid> {
        check("title", &self.title)?;
        check("author", &self.author)?;
        Ok(self)
    }
}

impl NewBooks {
    pub(crate) fn validated(self) -> Result<Vec<NewBook>, Invalid> {
        let Self(books) = self;
        if books.is_empty() || books.len() > MAX_BULK {
            return Err(Invalid::Count { count: books.len() });
        }
        let element = |(index, book): (usize, NewBook)| {
            let source = |source| Invalid::Element {
                index,
                source: Box::new(source),
            };
            book.validated().map_err(source)
        };
        books.into_iter().enumerate().map(element).collect()
    }
}

impl BookPatch {
    pub(crate) fn validated(self) -> Result<Self, Invalid> {
        self.title
            .as_deref()
            .map_or(Ok(()), |title| check("title", title))?;
        self.author
            .as_deref()
            .map_or(Ok(()), |author| check("author", author))?;
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
        .route("/bulk_add", post(handlers::bulk_add))
        .route(
            "/{id}",
            get(handlers::get)
                .patch(handlers::change)
                .delete(handlers::remove),
        )
        .route("/{id}/details", get(handlers::details))
}
