//! The values of fields, as layers keep them.

use std::{error::Error, fmt};

use tracing::field::{Field, Visit};

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

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// Calls a function for each field, except those of the bridge from the `log` crate.
pub(super) struct ForEach<F>(pub(super) F);

impl<F: FnMut(&'static str, FieldValue)> ForEach<F> {
    fn visit(&mut self, field: &Field, value: impl FnOnce() -> FieldValue) {
        if !field.name().starts_with("log.") {
            (self.0)(field.name(), value());
        }
    }
}

impl<F: FnMut(&'static str, FieldValue)> Visit for ForEach<F> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.visit(field, || FieldValue::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.visit(field, || FieldValue::U64(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.visit(field, || FieldValue::F64(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.visit(field, || FieldValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.visit(field, || FieldValue::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let text = || FieldValue::Text(crate::error_chain(value).to_string());
        self.visit(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.visit(field, || FieldValue::Text(format!("{value:?}")));
    }
}
