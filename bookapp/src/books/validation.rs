//! Validation of titles, authors and lists of new books.

use super::{BookPatch, NewBook, NewBooks};

/// The maximum length of a title or author, in characters.
pub(super) const MAX_TEXT: usize = 500;

/// The maximum number of books in one bulk request.
const MAX_BULK: usize = 1000;

/// The reason why a title, an author or a list of new books is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{field}: must not be blank")]
    Blank { field: &'static str },
    #[error("{field}: must have at most {MAX_TEXT} characters")]
    TooLong { field: &'static str },
    #[error("{field}: must not contain the character NUL")]
    Nul { field: &'static str },
    #[error("[{index}].{source}")]
    Element { index: usize, source: Box<Invalid> },
    #[error("must be from 1 to {MAX_BULK} books, not {count}")]
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
