//! The details of books, requested from the backend.

use std::collections::HashMap;

use backend_client::{
    Client, Error,
    types::{Details, Search},
};
use telemetry_common::{error_chain, exception};

use crate::state::AppState;

/// Requests the details of these books in one call. Returns no details if the call fails, because a
/// list without details is better than no list.
pub(super) async fn of_books(app: &AppState, ids: &[i32]) -> HashMap<i32, Details> {
    if ids.is_empty() {
        return HashMap::new();
    }
    let search = Search {
        book_ids: ids.to_vec(),
    };
    match app.backend.search_details(&search).await {
        Ok(found) => {
            let found = found.into_inner().into_iter();
            found.map(|details| (details.book_id, details)).collect()
        }
        Err(error) => {
            exception!(
                warn,
                "bookapp.list.degraded",
                &Unavailable::from(&error),
                "the list was returned without details"
            );
            app.metrics.lists_degraded.add(1, &[]);
            HashMap::new()
        }
    }
}

/// Requests the details of one book. Returns `None` if the book has no details.
pub(super) async fn of_book(backend: &Client, id: i32) -> Result<Option<Details>, Error> {
    match backend.get_details(id).await {
        Ok(details) => Ok(Some(details.into_inner())),
        Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The reason why the backend returned no details, for the log. The error of the generated client
/// would log all response headers.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error("the backend responded with status {0}")]
    Status(u16),
    #[error("the backend did not respond: {0}")]
    NoResponse(String),
}

impl From<&Error> for Unavailable {
    fn from(error: &Error) -> Self {
        match (error.status(), error) {
            (Some(status), _) => Self::Status(status.as_u16()),
            (None, Error::CommunicationError(error)) => {
                Self::NoResponse(error_chain(error).to_string())
            }
            (None, error) => Self::NoResponse(error.to_string()),
        }
    }
}
