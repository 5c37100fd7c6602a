//! The fields of spans as attributes of exported log records, if `LOG_SPAN_FIELDS` lists `otlp`.
//!
//! The bridge of OpenTelemetry passes the log record of an event to the processors on the same thread.
//! So [`WithSpanFields`] remembers the fields while the bridge runs, and [`AddSpanFields`] adds them.
//! The bridge's own feature for it, `experimental_span_attributes`, repeats an attribute if spans or
//! the event have the same name, which OTLP does not allow.

use std::{cell::RefCell, sync::Arc, time::Duration};

use opentelemetry::{InstrumentationScope, logs::LogRecord as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::layers::{SpanFields, is_inherited};

thread_local! {
    /// The fields of the spans around the event of this thread.
    static FIELDS: RefCell<Option<Arc<SpanFields>>> = const { RefCell::new(None) };
}

/// The layer that exports log records, which have the fields of the spans if it is on.
pub(crate) struct WithSpanFields<L> {
    pub(crate) logs: L,
    pub(crate) is_on: bool,
}

impl<S, L> Layer<S> for WithSpanFields<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.is_on {
            let span = context.event_span(event);
            FIELDS.set(span.as_ref().and_then(SpanFields::of));
        }
        self.logs.on_event(event, context);
    }
}

/// A processor that adds the fields to a log record. Those that the record has stay.
#[derive(Debug)]
pub(crate) struct AddSpanFields;

impl LogProcessor for AddSpanFields {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        let Some(fields) = FIELDS.take() else { return };
        for (name, value) in fields.iter().filter(|(name, _)| is_inherited(name)) {
            let has = |name: &str| {
                record
                    .attributes_iter()
                    .any(|(key, _)| key.as_str() == name)
            };
            if !has(name) {
                record.add_attribute(name, value);
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
