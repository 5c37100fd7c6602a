//! The types of books in the API and the database.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};

use super::validation::MAX_TEXT;

/// A stored book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Book {
    pub(crate) id: i32,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) status: BookStatus,
}

/// The availability of a book.
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

/// Deserialization goes through `String`, so that a number or null is a wrong type (status 422).
/// Without this step, serde reports it as malformed JSON (status 400).
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

/// A book to add.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) struct NewBook {
    /// Must not be blank or contain the character NUL.
    #[schema(schema_with = text)]
    pub(crate) title: String,
    /// Must not be blank or contain the character NUL.
    #[schema(schema_with = text)]
    pub(crate) author: String,
    #[serde(default)]
    #[schema(default = "available")]
    pub(crate) status: BookStatus,
}

/// Books to add. All of them are added, or none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(min_items = 1, max_items = 1000)]
pub(crate) struct NewBooks(pub(super) Vec<NewBook>);

/// A change of a book. Absent fields keep their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) struct BookPatch {
    /// Must not be blank or contain the character NUL.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(schema_with = text)]
    pub(crate) title: Option<String>,
    /// Must not be blank or contain the character NUL.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(schema_with = text)]
    pub(crate) author: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = BookStatus, required = false)]
    pub(crate) status: Option<BookStatus>,
}

/// The schema of a title or author. It matches the rules in `validation`.
fn text() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(MAX_TEXT))
        .pattern(Some(r"^[^\u0000]*[^\s\u0000][^\u0000]*$"))
        .build()
}

/// Deserializes an optional field. An absent field is `None`; null is an error.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}
