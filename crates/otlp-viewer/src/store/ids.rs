//! The ids of traces and spans.

use std::fmt;

use serde::{Serialize, Serializer};

/// The id of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TraceId([u8; 16]);

/// The id of a span in its trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SpanId([u8; 8]);

/// A span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SpanRef {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

impl TraceId {
    /// Returns the id with these bytes. `None` unless they are 16, and not all of them 0.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id = bytes.try_into().ok()?;
        (id != [0; 16]).then_some(Self(id))
    }

    /// Returns the id with these 32 hex digits.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        Self::from_bytes(&hex::decode(digits).ok()?)
    }
}

impl SpanId {
    /// Returns the id with these bytes. `None` unless they are 8, and not all of them 0.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id = bytes.try_into().ok()?;
        (id != [0; 8]).then_some(Self(id))
    }
}

impl SpanRef {
    /// Returns the span with these ids, if both are valid.
    pub(super) fn from_bytes(trace: &[u8], span: &[u8]) -> Option<Self> {
        Some(Self {
            trace: TraceId::from_bytes(trace)?,
            span: SpanId::from_bytes(span)?,
        })
    }
}

macro_rules! hex_digits {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
hex_digits!(TraceId, SpanId);
