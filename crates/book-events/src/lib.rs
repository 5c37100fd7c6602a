//! The contract on Kafka between bookapp and backend: topic names, events, and the attributes by
//! which telemetry names a book.

use std::str;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Where added books are announced; the key is the book's id as text.
pub const BOOK_ADDED: &str = "book.added.v1";

/// Where announcements go that cannot be processed.
pub const BOOK_ADDED_DEAD_LETTER: &str = "book.added.v1.dead-letter";

/// Partitions of each topic.
pub const PARTITIONS: i32 = 3;

/// The attribute that names a book on spans and logs; never on metrics.
pub const BOOK_ID: &str = "bookapp.book.id";

/// The version of [`BookAdded`] this code writes and reads.
const SCHEMA_VERSION: u32 = 1;

/// The largest value that is read, in bytes.
const MAX_SIZE: usize = 64 * 1024;

/// A book was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookAdded {
    /// The event's own id; a redelivered event keeps it.
    pub event_id: Ulid,
    event_type: EventType,
    schema_version: u32,
    /// When the book was added.
    pub occurred_at: Timestamp,
    /// Which book.
    pub book_id: i32,
    /// The id of the request that added it.
    pub request_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum EventType {
    #[serde(rename = "book.added")]
    BookAdded,
}

impl BookAdded {
    /// The announcement of `book_id`, added now.
    pub fn now(book_id: i32, request_id: String) -> Self {
        Self {
            event_id: Ulid::generate(),
            event_type: EventType::BookAdded,
            schema_version: SCHEMA_VERSION,
            occurred_at: Timestamp::now(),
            book_id,
            request_id,
        }
    }

    /// Reads a message's value.
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
        // The version first: of another one, nothing else is known.
        let Version { schema_version } = serde_json::from_str(value)?;
        if schema_version != SCHEMA_VERSION {
            return Err(DecodeError::UnknownVersion { schema_version });
        }
        Ok(serde_json::from_str(value)?)
    }
}

/// Why a message is no event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There is no value.
    #[error("the value is null")]
    Null,
    /// The value is larger than any event.
    #[error("the value has {size} bytes")]
    TooLarge {
        /// How large it is, in bytes.
        size: usize,
    },
    /// The value is no text.
    #[error("the value is not UTF-8")]
    Utf8(#[from] str::Utf8Error),
    /// The value is not the JSON it should be.
    #[error("the value is not a book event")]
    Json(#[from] serde_json::Error),
    /// The value is of a version this code does not know.
    #[error("the value has schema version {schema_version}")]
    UnknownVersion {
        /// The version it says it is.
        schema_version: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_it_was_written() {
        let event = BookAdded::now(7, "req-1".to_owned());
        let value = serde_json::to_vec(&event).unwrap();
        assert_eq!(BookAdded::decode(Some(&value)).unwrap(), event);
    }

    #[test]
    fn the_wire_format_is_the_contract() {
        let value = br#"{"event_id":"01JCKB3T9Z6QW5N7R8V2X4Y0AB","event_type":"book.added",
            "schema_version":1,"occurred_at":"2026-11-22T06:00:00Z","book_id":7,
            "request_id":"req-1","added_later":true}"#;
        let event = BookAdded::decode(Some(value)).unwrap();
        assert_eq!((event.book_id, event.request_id.as_str()), (7, "req-1"));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let decode = |value| BookAdded::decode(value).unwrap_err();
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
