//! Ingestion of the events of books: reads the book as it is now, derives its details and stores them, once
//! per event. The details of a book that no longer exists are deleted. One transaction ingests one event or
//! many.
//!
//! So events may be delivered twice, or out of order: the last one that is processed finds the newest
//! version of the book. Two workers may process events of one book at the same time only if one of them has
//! lost its partition; then the newer version of the book wins.

mod derive;
mod repository;

use std::{collections::HashSet, slice, time::Duration};

use book_events::{BOOK_ID, BookEvent, DecodeError};
use service_common::{
    fault_injection::InjectedFault,
    postgres::{in_time, is_transient},
    pruning::prune,
};
use telemetry_common::{db::Database, record_failure};
use tokio::time::sleep;
use tracing::{info, instrument, warn};

use crate::details;

/// The version of the newest migration that this code needs.
const SCHEMA_VERSION: i64 = 10;
/// The time limit for reading the version of the schema.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of ingesting an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// The details of the book were derived and stored.
    Derived,
    /// The book no longer exists, so its details were deleted.
    Deleted,
    /// The event was delivered again and has no effect.
    Duplicate,
}

impl Ingested {
    /// Logs the outcome.
    pub(crate) fn log(self, book_id: i32) {
        match self {
            Self::Derived => {
                info!(name: "bookapp.book.ingested", { { BOOK_ID } = book_id }, "book {book_id} ingested");
            }
            Self::Deleted => {
                info!(name: "bookapp.book.details.deleted", { { BOOK_ID } = book_id }, "details of book {book_id} deleted, because the book was removed");
            }
            Self::Duplicate => {
                info!(name: "bookapp.book.ingested_before", { { BOOK_ID } = book_id }, "duplicate event of book {book_id} ignored");
            }
        }
    }
}

/// The reason why an event could not be ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestionError {
    /// The message is not an event.
    #[error("the message is not a book event")]
    Decode(#[from] DecodeError),
    /// A database operation failed.
    #[error("the details could not be stored")]
    Database(#[from] sqlx::Error),
    /// The processing panicked.
    #[error("the processing panicked")]
    Panic,
    /// A fault rule injected this error.
    #[error("{0}")]
    Injected(#[from] InjectedFault),
}

impl IngestionError {
    /// Returns whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Decode(_) | Self::Injected(_) => false,
            Self::Panic => true,
            Self::Database(error) => is_transient(error),
        }
    }

    /// Every value of [`kind`](Self::kind).
    pub const KINDS: [&str; 8] = [
        "injected",
        "null_value",
        "too_large",
        "bad_utf8",
        "bad_json",
        "unknown_version",
        "database",
        "panic",
    ];

    /// Returns the value of `error.type`, which has a low cardinality.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Decode(DecodeError::Null) => "null_value",
            Self::Decode(DecodeError::TooLarge { .. }) => "too_large",
            Self::Decode(DecodeError::Utf8(_)) => "bad_utf8",
            Self::Decode(DecodeError::Json(_)) => "bad_json",
            Self::Decode(DecodeError::UnknownVersion { .. }) => "unknown_version",
            Self::Database(_) => "database",
            Self::Panic => "panic",
            Self::Injected(_) => "injected",
        }
    }
}

/// Ingests one event.
#[instrument(name = "ingestion.enrich", skip_all, fields({ BOOK_ID } = event.book_id))]
pub async fn enrich(db: &Database, event: &BookEvent) -> Result<Ingested, IngestionError> {
    let book_id = event.book_id;
    let stored = store(db, slice::from_ref(event)).await;
    let ingested = stored
        .map_err(IngestionError::from)
        .inspect_err(|error| record_failure(error.kind(), error))?
        .ingested(event);
    ingested.log(book_id);
    Ok(ingested)
}

/// Ingests events in one transaction. Returns the outcome of each, which the caller logs.
pub async fn enrich_all(
    db: &Database,
    events: &[BookEvent],
) -> Result<Vec<Ingested>, IngestionError> {
    let mut stored = store(db, events).await?;
    Ok(events.iter().map(|event| stored.ingested(event)).collect())
}

/// What a transaction has stored.
#[derive(Default)]
struct Stored {
    /// The ids of events that were not ingested before.
    new_events: HashSet<String>,
    /// The ids of the books that exist.
    books: HashSet<i32>,
}

impl Stored {
    /// Returns the outcome of an event. Another event with the same id is a duplicate.
    fn ingested(&mut self, event: &BookEvent) -> Ingested {
        if !self.new_events.remove(&event.event_id.to_string()) {
            Ingested::Duplicate
        } else if self.books.contains(&event.book_id) {
            Ingested::Derived
        } else {
            Ingested::Deleted
        }
    }
}

/// Stores the details of the books of these events, and the ids of the events, in the table `ledger`, in one
/// transaction.
///
/// Events of several partitions are stored at the same time. So each statement has its rows in order, which
/// prevents deadlocks.
async fn store(db: &Database, events: &[BookEvent]) -> sqlx::Result<Stored> {
    let mut event_ids: Vec<_> = events
        .iter()
        .map(|event| event.event_id.to_string())
        .collect();
    event_ids.sort_unstable();
    let mut tx = db.begin().await?;
    let new = repository::insert_events(&mut tx, &event_ids).await?;
    let new_events: HashSet<_> = new.into_iter().collect();
    if new_events.is_empty() {
        return Ok(Stored::default());
    }
    let is_new = |event: &&BookEvent| new_events.contains(&event.event_id.to_string());
    let mut ids: Vec<_> = events
        .iter()
        .filter(is_new)
        .map(|event| event.book_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let found = repository::books(&mut tx, &ids).await?;
    let derived: Vec<_> = found.iter().map(derive::details).collect();
    if !derived.is_empty() {
        details::repository::put(&mut tx, &derived).await?;
    }
    let books: HashSet<_> = found.iter().map(|book| book.id).collect();
    ids.retain(|id| !books.contains(id));
    if !ids.is_empty() {
        details::repository::delete(&mut tx, &ids).await?;
    }
    tx.commit().await?;
    Ok(Stored { new_events, books })
}

/// Prunes the ids of events that were processed more than `retention` ago, as long as it runs.
pub async fn prune_ledger(db: &Database, retention: Duration) {
    prune("ledger", || repository::prune_ledger(db, retention)).await;
}

/// Waits until bookapp has migrated the database as far as this code needs.
pub async fn wait_for_schema(db: &Database) {
    let mut is_logged = false;
    loop {
        // On the heap, because a future that may open a connection is large.
        let version = Box::pin(repository::schema_version(db));
        match in_time(SCHEMA_TIMEOUT, version).await {
            Ok(version) if version >= SCHEMA_VERSION => return,
            _ if is_logged => {}
            _ => {
                warn!(name: "bookapp.schema.missing", "waiting for bookapp to migrate the database to version {SCHEMA_VERSION}");
                is_logged = true;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}
