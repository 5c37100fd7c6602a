//! The Kafka contract between bookapp and backend: topic names, events, and the telemetry attribute
//! with the id of a book.

use std::str;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// The topic of the events of all books. The key is the id of the book, as text: Kafka keeps the order
/// of the events of a book.
pub const BOOK_EVENTS: &str = "book.events.v1";

/// The topic of the events that cannot be processed.
pub const BOOK_EVENTS_DEAD_LETTER: &str = "book.events.v1.dead-letter";

/// The topic of earlier releases, which had the events of added books only. The worker processes what
/// is left in it.
pub const BOOK_ADDED: &str = "book.added.v1";

/// The dead letters of [`BOOK_ADDED`].
pub const BOOK_ADDED_DEAD_LETTER: &str = "book.added.v1.dead-letter";

/// The attribute with the id of a book, on spans and log records. Metrics must not have it, because
/// of its cardinality.
pub const BOOK_ID: &str = "bookapp.book.id";

/// The version of [`BookEvent`] that this code writes and reads.
const SCHEMA_VERSION: u32 = 1;

/// The maximum size of a value that is read, in bytes.
const MAX_SIZE: usize = 64 * 1024;

/// The event that a book was added, changed or removed.
///
/// It does not contain the book: who receives the event reads the book as it is then. So events that are
/// delivered twice or out of order do no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookEvent {
    /// The id of the event. A redelivered event has the same id.
    pub event_id: Ulid,
    /// What happened to the book.
    pub event_type: Change,
    schema_version: u32,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The id of the book. It is never used for another book.
    pub book_id: i32,
    /// The version of the book since then: 1 for an added book, and 1 more for each change and for the
    /// removal. Events of earlier releases, of added books, have no version.
    #[serde(default = "first_version")]
    pub book_version: i32,
    /// The id of the request that caused it.
    pub request_id: String,
}

/// What happened to a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The book was added.
    #[serde(rename = "book.added")]
    Added,
    /// Its title, author or status were changed.
    #[serde(rename = "book.changed")]
    Changed,
    /// The book was removed.
    #[serde(rename = "book.removed")]
    Removed,
}

fn first_version() -> i32 {
    1
}

impl BookEvent {
    /// Creates the event that this happened to the book `book_id` now.
    pub fn now(change: Change, book_id: i32, book_version: i32, request_id: String) -> Self {
        Self {
            event_id: Ulid::generate(),
            event_type: change,
            schema_version: SCHEMA_VERSION,
            occurred_at: Timestamp::now(),
            book_id,
            book_version,
            request_id,
        }
    }

    /// Creates the event that the book `book_id` was added now.
    pub fn added(book_id: i32, request_id: String) -> Self {
        Self::now(Change::Added, book_id, first_version(), request_id)
    }

    /// Parses the value of a message.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let value = value.ok_or(DecodeError::Null)?;
        if value.len() > MAX_SIZE {
            return Err(DecodeError::TooLarge { size: value.len() });
        }
        let value = str::from_utf8(value)?;
        // Check the version first, because other fields of another version are unknown.
        let Version { schema_version } = serde_json::from_str(value)?;
        if schema_version != SCHEMA_VERSION {
            return Err(DecodeError::UnknownVersion { schema_version });
        }
        Ok(serde_json::from_str(value)?)
    }
}

/// The reason why a message is not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message has no value.
    #[error("the value is null")]
    Null,
    /// The value exceeds the maximum size.
    #[error("the value has {size} bytes, more than {MAX_SIZE}")]
    TooLarge {
        /// The size of the value, in bytes.
        size: usize,
    },
    /// The value is not UTF-8.
    #[error("the value is not UTF-8")]
    Utf8(#[from] str::Utf8Error),
    /// The value is not JSON of the expected type.
    #[error("the value is not a book event")]
    Json(#[from] serde_json::Error),
    /// The value has a version that this code does not support.
    #[error("the value has schema version {schema_version}, not {SCHEMA_VERSION}")]
    UnknownVersion {
        /// The version of the value.
        schema_version: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_it_was_written() {
        for change in [Change::Added, Change::Changed, Change::Removed] {
            let event = BookEvent::now(change, 7, 2, "req-1".to_owned());
            let value = serde_json::to_vec(&event).unwrap();
            assert_eq!(BookEvent::decode(Some(&value)).unwrap(), event);
        }
    }

    #[test]
    fn the_wire_format_is_the_contract() {
        let value = br#"{"event_id":"01JCKB3T9Z6QW5N7R8V2X4Y0AB","event_type":"book.changed",
            "schema_version":1,"occurred_at":"2026-11-22T06:00:00Z","book_id":7,
            "book_version":2,"request_id":"req-1","added_later":true}"#;
        let event = BookEvent::decode(Some(value)).unwrap();
        assert_eq!((event.book_id, event.book_version), (7, 2));
        assert_eq!(event.event_type, Change::Changed);
        assert_eq!(event.request_id, "req-1");
    }

    #[test]
    fn an_event_of_an_earlier_release_is_read() {
        let value = br#"{"event_id":"01JCKB3T9Z6QW5N7R8V2X4Y0AB","event_type":"book.added",
            "schema_version":1,"occurred_at":"2026-11-22T06:00:00Z","book_id":7,
            "request_id":"req-1"}"#;
        let event = BookEvent::decode(Some(value)).unwrap();
        assert_eq!((event.event_type, event.book_version), (Change::Added, 1));
    }

    #[test]
    fn what_is_no_event_is_rejected_with_its_reason() {
        let decode = |value| BookEvent::decode(value).unwrap_err();
        assert!(matches!(decode(None), DecodeError::Null));
        assert!(matches!(decode(Some(b"{")), DecodeError::Json(_)));
        assert!(matches!(decode(Some(b"\xff")), DecodeError::Utf8(_)));
        let large = vec![b' '; MAX_SIZE + 1];
        assert!(matches!(decode(Some(&large)), DecodeError::TooLarge { .. }));
        let newer = br#"{"schema_version":2,"everything":"else"}"#;
        assert!(matches!(
            decode(Some(newer)),
            DecodeError::UnknownVersion { schema_version: 2 }
        ));
    }
}
