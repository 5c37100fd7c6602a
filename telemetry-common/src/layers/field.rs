//! The values of fields, borrowed while they are recorded, and as layers keep them.

use std::{error::Error, fmt};

use opentelemetry::logs::AnyValue;
use tracing::field::{Field, Visit};

use crate::{error_chain, redact};

/// The value of a field. It keeps its type, so that a formatter can print numbers as numbers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FieldValue {
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// A boolean.
    Bool(bool),
    /// A string, an error with its causes, or the output of `Debug` or `Display`.
    Text(String),
}

impl FieldValue {
    pub(crate) fn borrowed(&self) -> Value<'_> {
        match self {
            Self::I64(value) => Value::I64(*value),
            Self::U64(value) => Value::U64(*value),
            Self::F64(value) => Value::F64(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Text(value) => Value::Str(value),
        }
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrowed().fmt(f)
    }
}

impl From<FieldValue> for opentelemetry::Value {
    fn from(value: FieldValue) -> Self {
        match value {
            FieldValue::I64(value) => value.into(),
            FieldValue::U64(value) => {
                i64::try_from(value).map_or_else(|_| value.to_string().into(), Self::I64)
            }
            FieldValue::F64(value) => value.into(),
            FieldValue::Bool(value) => value.into(),
            FieldValue::Text(value) => value.into(),
        }
    }
}

impl From<&FieldValue> for AnyValue {
    fn from(value: &FieldValue) -> Self {
        match value {
            FieldValue::I64(value) => Self::Int(*value),
            FieldValue::U64(value) => {
                i64::try_from(*value).map_or_else(|_| value.to_string().into(), Self::Int)
            }
            FieldValue::F64(value) => Self::Double(*value),
            FieldValue::Bool(value) => Self::Boolean(*value),
            FieldValue::Text(value) => value.clone().into(),
        }
    }
}

/// The value of a field while it is recorded.
#[derive(Clone, Copy)]
pub(crate) enum Value<'v> {
    I64(i64),
    U64(u64),
    F64(f64),
    Bool(bool),
    Str(&'v str),
    /// An error with its causes, or the output of `Debug` or `Display`.
    Text(fmt::Arguments<'v>),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Str(value) => f.write_str(value),
            Self::Text(value) => f.write_fmt(*value),
        }
    }
}

impl From<Value<'_>> for FieldValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::I64(value) => Self::I64(value),
            Value::U64(value) => Self::U64(value),
            Value::F64(value) => Self::F64(value),
            Value::Bool(value) => Self::Bool(value),
            Value::Str(value) => Self::Text(value.to_owned()),
            Value::Text(value) => Self::Text(value.to_string()),
        }
    }
}

/// Returns a visitor that calls `f` with the name and the value of each field, except those of the
/// bridge from the `log` crate, which contain the target and the location of the log record. The
/// value of a secret is replaced.
pub(crate) fn for_each(f: impl FnMut(&'static str, Value<'_>)) -> impl Visit {
    ForEach(f)
}

/// Returns the fields that `record` visits, usually `count`.
///
/// The `Debug` and `Display` of values run here, and they may log events. So call it before a lock is
/// taken that an event needs.
pub(crate) fn owned(
    count: usize,
    record: impl FnOnce(&mut dyn Visit),
) -> Vec<(&'static str, FieldValue)> {
    let mut fields = Vec::with_capacity(count);
    record(&mut for_each(|name, value| {
        fields.push((name, value.into()));
    }));
    fields
}

struct ForEach<F>(F);

impl<F: FnMut(&'static str, Value<'_>)> ForEach<F> {
    fn visit(&mut self, field: &Field, value: Value<'_>) {
        let name = field.name();
        if redact::is_secret_field(name) {
            (self.0)(name, Value::Str(redact::REDACTED));
        } else if !name.starts_with("log.") {
            (self.0)(name, value);
        }
    }
}

impl<F: FnMut(&'static str, Value<'_>)> Visit for ForEach<F> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.visit(field, Value::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.visit(field, Value::U64(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.visit(field, Value::F64(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.visit(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.visit(field, Value::Str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.visit(field, Value::Text(format_args!("{}", error_chain(value))));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.visit(field, Value::Text(format_args!("{value:?}")));
    }
}
