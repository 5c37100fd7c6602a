//! A line as one JSON object.

use std::{fmt, mem};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::line::{Line, Subject, Transition, free_name};
use crate::layers::Value;

/// Writes a line. Numbers stay numbers.
pub(super) fn write(out: &mut String, line: &Line<'_>) -> fmt::Result {
    let mut bytes = mem::take(out).into_bytes();
    let written = write_object(&mut bytes, line);
    bytes.push(b'\n');
    *out = String::from_utf8(bytes).map_err(|_| fmt::Error)?;
    written.map_err(|_| fmt::Error)
}

fn write_object(bytes: &mut Vec<u8>, line: &Line<'_>) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(bytes);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("timestamp", &Text(format_args!("{:.3}", line.time)))?;
    object.serialize_entry("level", line.metadata.level().as_str())?;
    if let Some(name) = line.event_name() {
        object.serialize_entry("event", name)?;
    }
    if let Subject::Span {
        id,
        parent,
        transition,
    } = line.subject
    {
        object.serialize_entry("span_name", line.metadata.name())?;
        object.serialize_entry("span", &id)?;
        if let Some(parent) = parent {
            object.serialize_entry("parent_span", &parent)?;
        }
        match transition {
            Transition::Started => object.serialize_entry("span_event", "new_span")?,
            Transition::Ended(latency) => {
                object.serialize_entry("span_event", "close_span")?;
                object.serialize_entry("latency_ms", &latency.as_millis())?;
            }
        }
    }
    let mut written = Ok(());
    line.for_each(|name, value| {
        if written.is_ok() {
            written = match name {
                "message" => object.serialize_entry(name, &value),
                name => object.serialize_entry(&free_name(name), &value),
            };
        }
    });
    written?;
    object.serialize_entry("target", &line.target())?;
    let mut written = Ok(());
    line.ids.for_each(|name, id| {
        if written.is_ok() {
            written = object.serialize_entry(name, &Text(format_args!("{id}")));
        }
    });
    written?;
    object.end()
}

/// A text that is formatted while it is written.
struct Text<'t>(fmt::Arguments<'t>);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::I64(value) => serializer.serialize_i64(*value),
            Self::U64(value) => serializer.serialize_u64(*value),
            Self::F64(value) => serializer.serialize_f64(*value),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Str(value) => serializer.serialize_str(value),
            Self::Text(value) => serializer.collect_str(value),
        }
    }
}
