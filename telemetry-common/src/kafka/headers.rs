//! Trace context in the headers of messages.

use std::{collections::BTreeMap, str};

use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
};
use rdkafka::{
    Message,
    message::{Header, OwnedHeaders},
};
use serde::{Deserialize, Serialize};

/// The headers of a message as strings, so that they can be stored before the message is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Returns headers that carry `context`, in the formats of `OTEL_PROPAGATORS`.
    pub fn carrying(context: &Context) -> Self {
        let mut headers = Self::default();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(context, &mut headers);
        });
        headers
    }

    /// Whether there is a header with this key, ignoring case.
    pub fn contains(&self, key: &str) -> bool {
        self.0.keys().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// Adds a header, or replaces the header with the same key.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds the headers to those of a message.
    pub(super) fn add_to(&self, message: OwnedHeaders) -> OwnedHeaders {
        self.0.iter().fold(message, |headers, (key, value)| {
            let value = Some(value);
            headers.insert(Header { key, value })
        })
    }

    /// Returns the context that the headers carry, or an empty context if they carry none.
    pub fn context(&self) -> Context {
        global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), self)
        })
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        // The propagator writes an empty `tracestate` if there is none.
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl From<&Headers> for OwnedHeaders {
    fn from(headers: &Headers) -> Self {
        headers.add_to(Self::new())
    }
}

/// Returns the context that a received message carries, or an empty context if it carries none.
///
/// If a header is repeated, its last value is used.
pub fn extract(message: &impl Message) -> Context {
    global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Received(message.headers()))
    })
}

/// The headers of a received message. A value is bytes and may be null; a key may be repeated, and
/// then the last value is used.
struct Received<'m, H>(Option<&'m H>);

impl<H: rdkafka::message::Headers> Extractor for Received<'_, H> {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self
            .0?
            .iter()
            .filter(|header| header.key.eq_ignore_ascii_case(key))
            .last()?;
        str::from_utf8(found.value?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .map(|headers| headers.iter().map(|header| header.key).collect())
            .unwrap_or_default()
    }
}
