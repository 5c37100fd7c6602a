//! A line as one JSON object.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write},
};

use serde_json::json;

use super::line::{Line, Subject, Transition, free_name};
use crate::layers::Value;

/// Writes a line. Numbers stay numbers.
pub(super) fn write(out: &mut String, line: &Line<'_>) -> fmt::Result {
    let mut object = BTreeMap::new();
    line.for_each(|name, value| {
        let name = match name {
            "message" => Cow::Borrowed(name),
            name => free_name(name),
        };
        object.insert(name, to_json(value));
    });
    let mut set = |name: &'static str, value| object.insert(Cow::Borrowed(name), value);
    if let Some(name) = line.event_name() {
        set("event", json!(name));
    }
    if let Subject::Span {
        id,
        parent,
        transition,
    } = line.subject
    {
        set("span_name", json!(line.metadata.name()));
        set("span", json!(id));
        if let Some(parent) = parent {
            set("parent_span", json!(parent));
        }
        match transition {
            Transition::Started => set("span_event", json!("new_span")),
            Transition::Ended(latency) => {
                set("latency_ms", json!(latency.as_millis()));
                set("span_event", json!("close_span"))
            }
        };
    }
    set("timestamp", json!(format!("{:.3}", line.time)));
    set("level", json!(line.metadata.level().as_str()));
    set("target", json!(line.target()));
    line.ids.for_each(|name, id| {
        set(name, json!(id.to_string()));
    });
    let object = serde_json::to_string(&object).map_err(|_| fmt::Error)?;
    writeln!(out, "{object}")
}

fn to_json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::I64(value) => value.into(),
        Value::U64(value) => value.into(),
        Value::F64(value) => value.into(),
        Value::Bool(value) => value.into(),
        Value::Str(value) => value.into(),
        Value::Text(value) => value.to_string().into(),
    }
}
