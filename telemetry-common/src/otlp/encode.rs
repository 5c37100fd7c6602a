//! Encodes spans and log records as OTLP requests, directly from the data of the SDK.
//!
//! opentelemetry-otlp first copies each span to the types that are generated from the protocol, with an
//! allocation for each key and each string, and then computes the size of each message again for every
//! message around it. docs/performance.md has the difference.
//!
//! The numbers of the fields: <https://github.com/open-telemetry/opentelemetry-proto>.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::{
    Array, InstrumentationScope, KeyValue, Value,
    logs::AnyValue,
    trace::{Event, Link, SpanId, SpanKind, Status, TraceFlags},
};
use opentelemetry_sdk::{
    Resource,
    logs::{LogBatch, SdkLogRecord},
    trace::SpanData,
};

use super::protobuf::{Message, Variant};

/// The bits of `flags`: it is known whether the parent, or the linked span, is of another process; and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// The usual size of a span or a log record in bytes.
const ITEM_SIZE: usize = 640;

/// Returns an `ExportTraceServiceRequest`.
pub(super) fn spans(spans: &[SpanData], resource: &Resource) -> Vec<u8> {
    let items = spans.iter().map(|span| {
        let scope = &span.instrumentation_scope;
        (Scope::new(scope.name(), scope), span)
    });
    request(items, resource, span)
}

/// Returns an `ExportLogsServiceRequest`. The name of the scope of a record is its target.
pub(super) fn logs(batch: &LogBatch<'_>, resource: &Resource) -> Vec<u8> {
    let items = batch.iter().map(|(record, scope)| {
        let target = record
            .target()
            .map_or(scope.name(), |target| target.as_ref());
        (Scope::new(target, scope), record)
    });
    request(items, resource, record)
}

/// The scope of an item.
#[derive(Clone, Copy)]
struct Scope<'s> {
    name: &'s str,
    scope: &'s InstrumentationScope,
}

impl<'s> Scope<'s> {
    fn new(name: &'s str, scope: &'s InstrumentationScope) -> Self {
        Self { name, scope }
    }

    fn write(self, message: &mut Message<'_>) {
        message.bytes(1, self.name);
        message.bytes(2, self.scope.version().unwrap_or_default());
        attributes(message, 3, self.scope.attributes());
    }
}

impl PartialEq for Scope<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.scope, other.scope);
        self.name == other.name
            && a.version() == b.version()
            && a.schema_url() == b.schema_url()
            && a.attributes().eq(b.attributes())
    }
}

/// Returns a request with the items, which have the same structure in both signals: by resource, then by
/// scope.
fn request<'i, T: 'i>(
    items: impl Iterator<Item = (Scope<'i>, &'i T)>,
    resource: &Resource,
    write: fn(&mut Message<'_>, &T),
) -> Vec<u8> {
    let mut scopes: Vec<(Scope<'_>, Vec<&T>)> = Vec::new();
    for (scope, item) in items {
        match scopes.iter_mut().find(|(other, _)| *other == scope) {
            Some((_, items)) => items.push(item),
            None => scopes.push((scope, vec![item])),
        }
    }
    let count: usize = scopes.iter().map(|(_, items)| items.len()).sum();
    let mut request = Vec::with_capacity(count * ITEM_SIZE);
    Message(&mut request).message(1, |message| {
        message.message(1, |message| {
            for (key, value) in resource {
                attribute(message, 1, key.as_str(), |message| any(message, value));
            }
        });
        for (scope, items) in scopes {
            message.message(2, |message| {
                message.message(1, |message| scope.write(message));
                for item in items {
                    message.message(2, |message| write(message, item));
                }
                message.bytes(3, scope.scope.schema_url().unwrap_or_default());
            });
        }
        message.bytes(3, resource.schema_url().unwrap_or_default());
    });
    request
}

fn span(message: &mut Message<'_>, span: &SpanData) {
    let context = &span.span_context;
    message.bytes(1, context.trace_id().to_bytes());
    message.bytes(2, context.span_id().to_bytes());
    message.bytes(3, context.trace_state().header());
    if span.parent_span_id != SpanId::INVALID {
        message.bytes(4, span.parent_span_id.to_bytes());
    }
    message.bytes(5, &*span.name);
    message.integer(6, kind(&span.span_kind));
    message.fixed_64(7, nanos(span.start_time));
    message.fixed_64(8, nanos(span.end_time));
    attributes(message, 9, &span.attributes);
    message.integer(10, span.dropped_attributes_count.into());
    for it in &span.events.events {
        message.message(11, |message| event(message, it));
    }
    message.integer(12, span.events.dropped_count.into());
    for it in &span.links.links {
        message.message(13, |message| link(message, it));
    }
    message.integer(14, span.links.dropped_count.into());
    message.message(15, |message| match &span.status {
        Status::Unset => {}
        Status::Ok => message.integer(3, 1),
        Status::Error { description } => {
            message.bytes(2, &**description);
            message.integer(3, 2);
        }
    });
    message.fixed_32(16, flags(context.trace_flags(), span.parent_span_is_remote));
}

fn event(message: &mut Message<'_>, event: &Event) {
    message.fixed_64(1, nanos(event.timestamp));
    message.bytes(2, &*event.name);
    attributes(message, 3, &event.attributes);
    message.integer(4, event.dropped_attributes_count.into());
}

fn link(message: &mut Message<'_>, link: &Link) {
    let context = &link.span_context;
    message.bytes(1, context.trace_id().to_bytes());
    message.bytes(2, context.span_id().to_bytes());
    message.bytes(3, context.trace_state().header());
    attributes(message, 4, &link.attributes);
    message.integer(5, link.dropped_attributes_count.into());
    message.fixed_32(6, flags(context.trace_flags(), context.is_remote()));
}

fn record(message: &mut Message<'_>, record: &SdkLogRecord) {
    message.fixed_64(1, record.timestamp().map_or(0, nanos));
    let severity = record
        .severity_number()
        .map_or(0, |severity| severity as u64);
    message.integer(2, severity);
    message.bytes(3, record.severity_text().unwrap_or_default());
    if let Some(body) = record.body() {
        message.message(5, |message| any_value(message, body));
    }
    for (key, value) in record.attributes_iter() {
        attribute(message, 6, key.as_str(), |message| {
            any_value(message, value);
        });
    }
    if let Some(context) = record.trace_context() {
        let flags = context.trace_flags.map_or(0, TraceFlags::to_u8);
        message.fixed_32(8, flags.into());
        message.bytes(9, context.trace_id.to_bytes());
        message.bytes(10, context.span_id.to_bytes());
    }
    message.fixed_64(11, record.observed_timestamp().map_or(0, nanos));
    message.bytes(12, record.event_name().unwrap_or_default());
}

fn attributes<'a>(
    message: &mut Message<'_>,
    field: u64,
    attributes: impl IntoIterator<Item = &'a KeyValue>,
) {
    for KeyValue { key, value, .. } in attributes {
        attribute(message, field, key.as_str(), |message| any(message, value));
    }
}

/// Writes a `KeyValue`.
fn attribute(
    message: &mut Message<'_>,
    field: u64,
    key: &str,
    value: impl FnOnce(&mut Message<'_>),
) {
    message.message(field, |message| {
        message.bytes(1, key);
        message.message(2, value);
    });
}

/// Writes an attribute's value as an `AnyValue`.
fn any(message: &mut Message<'_>, value: &Value) {
    match value {
        Value::Bool(value) => message.variant(2, Variant::Integer((*value).into())),
        Value::I64(value) => message.variant(3, Variant::Integer(value.cast_unsigned())),
        Value::F64(value) => message.variant(4, Variant::Double(*value)),
        Value::String(value) => message.variant(1, Variant::Bytes(value.as_str().as_bytes())),
        Value::Array(Array::Bool(values)) => array(message, values),
        Value::Array(Array::I64(values)) => array(message, values),
        Value::Array(Array::F64(values)) => array(message, values),
        Value::Array(Array::String(values)) => array(message, values),
        _ => {} // A kind that this version of the SDK does not have.
    }
}

fn array<T: Clone + Into<Value>>(message: &mut Message<'_>, values: &[T]) {
    message.message(5, |message| {
        for value in values {
            message.message(1, |message| any(message, &value.clone().into()));
        }
    });
}

/// Writes a value of a log record as an `AnyValue`.
fn any_value(message: &mut Message<'_>, value: &AnyValue) {
    match value {
        AnyValue::Boolean(value) => message.variant(2, Variant::Integer((*value).into())),
        AnyValue::Int(value) => message.variant(3, Variant::Integer(value.cast_unsigned())),
        AnyValue::Double(value) => message.variant(4, Variant::Double(*value)),
        AnyValue::String(value) => message.variant(1, Variant::Bytes(value.as_str().as_bytes())),
        AnyValue::Bytes(value) => message.variant(7, Variant::Bytes(value)),
        AnyValue::ListAny(values) => message.message(5, |message| {
            for value in values.iter() {
                message.message(1, |message| any_value(message, value));
            }
        }),
        AnyValue::Map(values) => message.message(6, |message| {
            for (key, value) in values.iter() {
                attribute(message, 1, key.as_str(), |message| {
                    any_value(message, value);
                });
            }
        }),
        _ => {} // A kind that this version of the SDK does not have.
    }
}

fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn flags(flags: TraceFlags, is_remote: bool) -> u32 {
    let remote = if is_remote { IS_REMOTE } else { 0 };
    u32::from(flags.to_u8()) | HAS_IS_REMOTE | remote
}

/// Returns the time in nanoseconds since 1970.
fn nanos(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
