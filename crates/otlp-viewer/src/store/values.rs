//! Values of OTLP as JSON.

use hex::encode;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
};
use prost::Message;
use serde_json::{Map, Value, json};

/// The largest integer that each number of JavaScript represents exactly.
const MAX_EXACT: u64 = 1 << 53;

/// The name of the attribute with the name of a service.
const SERVICE_NAME: &str = "service.name";

/// Returns attributes as a JSON object. The last of two attributes with the same key counts.
pub(super) fn attributes(pairs: &[KeyValue]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), value(pair.value.as_ref())))
        .collect()
}

/// Returns a value as JSON: bytes as hex digits, and an integer that JavaScript would round as a string.
pub(super) fn value(any: Option<&AnyValue>) -> Value {
    match any.and_then(|any| any.value.as_ref()) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(boolean)) => json!(boolean),
        Some(Any::IntValue(number)) if number.unsigned_abs() > MAX_EXACT => {
            json!(number.to_string())
        }
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::ArrayValue(array)) => array
            .values
            .iter()
            .map(|element| value(Some(element)))
            .collect(),
        Some(Any::KvlistValue(list)) => Value::Object(attributes(&list.values)),
        Some(Any::BytesValue(bytes)) => json!(encode(bytes)),
        Some(Any::StringValueStrindex(_)) | None => Value::Null,
    }
}

/// Returns a text attribute.
pub(super) fn text<'a>(pairs: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let pair = pairs.iter().find(|pair| pair.key == key)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Returns a value as the text that a person reads.
pub(super) fn readable(any: Option<&AnyValue>) -> String {
    match value(any) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What created a span, a log record or a metric.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) service: String,
    pub(super) resource: Value,
    pub(super) scope: String,
    /// The encoded size of the resource, divided among the items that share it.
    pub(super) bytes_each: usize,
}

impl Origin {
    /// `items` is the number of spans, log records or metrics that share it.
    pub(super) fn of(
        resource: Option<&Resource>,
        scope: Option<&InstrumentationScope>,
        items: usize,
    ) -> Self {
        let attributes = resource.map(|resource| &*resource.attributes);
        let service = attributes.and_then(|pairs| text(pairs, SERVICE_NAME));
        Self {
            service: service.unwrap_or("unknown_service").to_owned(),
            resource: Value::Object(self::attributes(attributes.unwrap_or_default())),
            scope: scope.map(|scope| scope.name.clone()).unwrap_or_default(),
            bytes_each: resource.map_or(0, Message::encoded_len) / items.max(1),
        }
    }
}
