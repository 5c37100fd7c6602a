//! Trace context in a message's headers.

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
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// A message's headers as text, so that they can be stored before they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The headers that carry the context of `span`.
    pub fn of(span: &Span) -> Self {
        Self::carrying(&span.context())
    }

    /// The headers that carry `context`.
    pub fn carrying(context: &Context) -> Self {
        let mut headers = Self::default();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(context, &mut headers);
        });
        headers
    }

    /// Whether `key` is among them, in any case.
    pub fn names(&self, key: &str) -> bool {
        self.0.keys().any(|name| name.eq_ignore_ascii_case(key))
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The context they carry; an empty one where they carry none.
    pub fn context(&self) -> Context {
        global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), self)
        })
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        // The propagator writes an empty `tracestate` where there is none.
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
        headers.0.iter().fold(Self::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
    }
}

/// The context a received message carries; an empty one where it carries none.
pub fn extract(message: &impl Message) -> Context {
    global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Received(message.headers()))
    })
}

/// Headers from the wire: bytes, perhaps null, perhaps repeated; the last one counts.
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
