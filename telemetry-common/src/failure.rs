//! A failure is marked where it happens and logged once where it is answered.

use std::{borrow::Cow, error::Error};

use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::semconv;

/// Marks the current span as failed: status `Error`, and `error_type`, a word from a fixed set.
///
/// Call it inside the instrumented future, else it marks the parent. It logs nothing.
pub fn record_failure(error_type: &'static str, error: &dyn Error) {
    mark(&Span::current(), error_type, error.to_string());
}

/// Marks `span` as failed with a low-cardinality `error_type`.
pub(crate) fn mark(
    span: &Span,
    error_type: impl Into<Cow<'static, str>>,
    description: impl Into<Cow<'static, str>>,
) {
    span.set_attribute(semconv::ERROR_TYPE, error_type.into());
    span.set_status(Status::error(description));
}
