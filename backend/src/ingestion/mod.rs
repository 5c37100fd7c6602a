//! Ingestion of the events of books: reads the book as it is now, derives its details and stores them, once
//! per event. The details of a book that no longer exists are deleted.
//!
//! So events may be delivered twice, or out of order: the last one that is processed finds the newest
//! version of the book. Two workers may process events of one book at the same time only if one of them has
//! lost its partition; then the newer version of the book wins.

mod derive;
mod repository;

use std::time::Duration;

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

/// The reason why an event could not be ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestionError {
    /// The message is not an event.
    #[error("the message is not a book event")]
    Decode(#[from] DecodeError),
    /// A database operation failed.
    #[error("could not ingest book {book_id}")]
    Database {
        /// The id of the book.
        book_id: i32,
        /// The error of the database.
        #[source]
        source: sqlx::Error,
    },
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
            Self::Database { source, .. } => is_transient(source),
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
            Self::Database { .. } => "database",
            Self::Panic => "panic",
            Self::Injected(_) => "injected",
        }
    }
}

/// Ingests one event. The details and the id of the event, in the table `ledger`, are committed in
/// one transaction.
#[instrument(name = "ingestion.enrich", skip_all, fields({ BOOK_ID } = event.book_id))]
pub async fn enrich(db: &Database, event: &BookEvent) -> Result<Ingested, IngestionError> {
    let book_id = event.book_id;
    let ingested = derive_once(db, event)
        .await
        .map_err(|source| IngestionError::Database { book_id, source })
        .inspect_err(|error| record_failure(error.kind(), error))?;
    match ingested {
        Ingested::Derived => {
            info!(name: "bookapp.book.ingested", { { BOOK_ID } = book_id }, "book {book_id} ingested");
        }
        Ingested::Duplicate => {
            info!(name: "bookapp.book.ingested_before", { { BOOK_ID } = book_id }, "duplicate event of book {book_id} ignored");
        }
        Ingested::Deleted => {
            info!(name: "bookapp.book.details.deleted", { { BOOK_ID } = book_id }, "details of book {book_id} deleted, because the book was removed");
        }
    }
    Ok(ingested)
}

async fn derive_once(db: &Database, event: &BookEvent) -> sqlx::Result<Ingested> {
    let mut tx = db.begin().await?;
    if !repository::insert_event(&mut tx, &event.event_id.to_string()).await? {
        return Ok(Ingested::Duplicate);
    }
    let ingested = if let Some(book) = repository::book(&mut tx, event.book_id).await? {
        let derived = derive::details(event.book_id, &book);
        details::repository::put(&mut tx, &derived, book.version).await?;
        Ingested::Derived
    } else {
        details::repository::delete(&mut tx, event.book_id).await?;
        Ingested::Deleted
    };
    tx.commit().await?;
    Ok(ingested)
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
