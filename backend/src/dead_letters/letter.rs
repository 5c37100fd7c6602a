//! A dead letter in its topic: the message as it was, with additional headers.
//!
//! | header | value |
//! |---|---|
//! | `dead-letter-id` | the id of the dead letter, a ULID |
//! | `dead-letter-reason` | the `error.type` of the last failure |
//! | `dead-letter-attempts` | the number of attempts |
//! | `dead-letter-origin` | where the message was: `topic/partition@offset` |
//! | `dead-letter-traceparent` | the trace context of the last attempt, in the formats of `OTEL_PROPAGATORS` |
//!
//! The trace context in the other headers is that in which the message was created.

use std::str;

use jiff::Timestamp;
use opentelemetry::{Context, trace::TraceContextExt};
use rdkafka::{
    Message,
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
};
use serde::Serialize;
use telemetry_common::kafka::{self, Headers};

/// The prefix of the additional headers.
const PREFIX: &str = "dead-letter-";
const ID: &str = "dead-letter-id";
const REASON: &str = "dead-letter-reason";
const ATTEMPTS: &str = "dead-letter-attempts";
const ORIGIN: &str = "dead-letter-origin";

/// The values of the additional headers.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) id: String,
    pub(super) reason: &'static str,
    pub(super) attempts: u32,
    pub(super) origin: String,
    /// The context of the last attempt.
    pub(super) failed: Context,
}

impl Labels {
    /// Returns the headers of the dead letter of a message.
    pub(super) fn headers(&self, message: &OwnedMessage) -> OwnedHeaders {
        let attempts = self.attempts.to_string();
        let values = [
            (ID, &*self.id),
            (REASON, self.reason),
            (ATTEMPTS, &attempts),
            (ORIGIN, &self.origin),
        ];
        let headers =
            values
                .into_iter()
                .fold(original_headers(message), |headers, (key, value)| {
                    let value = Some(value);
                    headers.insert(Header { key, value })
                });
        let failed = OwnedHeaders::from(&Headers::carrying(&self.failed));
        failed.iter().fold(headers, |headers, header| {
            let (key, value) = (&format!("{PREFIX}{}", header.key), header.value);
            headers.insert(Header { key, value })
        })
    }
}

/// Returns the headers of a message without those of a dead letter. The trace context occurs exactly
/// once.
pub(super) fn original_headers(message: &OwnedMessage) -> OwnedHeaders {
    let context = Headers::carrying(&kafka::extract(message));
    let own = message.headers().into_iter().flat_map(OwnedHeaders::iter);
    let own = own.filter(|header| !header.key.starts_with(PREFIX) && !context.contains(header.key));
    own.fold(OwnedHeaders::from(&context), OwnedHeaders::insert)
}

/// A dead letter that was read from its topic.
#[derive(Debug)]
pub(super) struct Letter(pub(super) OwnedMessage);

/// What a list shows of a dead letter.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) id: String,
    /// When it was sent to the dead-letter topic.
    pub(super) time: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) attempts: String,
    pub(super) origin: String,
    pub(super) key: String,
    /// The size of its value, or null if it has none.
    pub(super) bytes: Option<usize>,
    /// The trace in which it was created.
    pub(super) created_in: Option<String>,
    /// The trace of the attempt that failed.
    pub(super) failed_in: Option<String>,
}

impl Letter {
    /// Returns the id. A dead letter of an earlier release has none, so its place in the topic is its id.
    pub(super) fn id(&self) -> String {
        let Self(message) = self;
        self.header(ID).unwrap_or_else(|| {
            format!(
                "{}/{}@{}",
                message.topic(),
                message.partition(),
                message.offset()
            )
        })
    }

    pub(super) fn reason(&self) -> String {
        self.header(REASON).unwrap_or_default()
    }

    pub(super) fn key(&self) -> String {
        String::from_utf8_lossy(self.0.key().unwrap_or_default()).into_owned()
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.0.timestamp().to_millis()?).ok()
    }

    /// Returns the trace context in which the message was created.
    pub(super) fn created(&self) -> Context {
        kafka::extract(&self.0)
    }

    /// Returns the trace context of the attempt that failed.
    pub(super) fn failed(&self) -> Context {
        let headers = self.headers().fold(Headers::default(), |headers, header| {
            let value = header.value.and_then(|value| str::from_utf8(value).ok());
            match (header.key.strip_prefix(PREFIX), value) {
                (Some(key), Some(value)) => headers.with(key, value),
                _ => headers,
            }
        });
        headers.context()
    }

    pub(super) fn summary(&self) -> Summary {
        let trace_id = |context: &Context| {
            let span = context.span().span_context().clone();
            span.is_valid().then(|| span.trace_id().to_string())
        };
        Summary {
            id: self.id(),
            time: self.time(),
            reason: self.reason(),
            attempts: self.header(ATTEMPTS).unwrap_or_default(),
            origin: self.header(ORIGIN).unwrap_or_default(),
            key: self.key(),
            bytes: self.0.payload().map(<[u8]>::len),
            created_in: trace_id(&self.created()),
            failed_in: trace_id(&self.failed()),
        }
    }

    fn headers(&self) -> impl Iterator<Item = Header<'_, &[u8]>> {
        self.0.headers().into_iter().flat_map(OwnedHeaders::iter)
    }

    fn header(&self, key: &str) -> Option<String> {
        let found = self.headers().filter(|header| header.key == key).last()?;
        Some(String::from_utf8_lossy(found.value?).into_owned())
    }
}
