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

#[cfg(test)]
mod tests {
    use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
    use opentelemetry_sdk::logs::{InMemoryLogExporter, SdkLoggerProvider};
    use tracing::{info, info_span, subscriber::with_default};
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;
    use crate::layers;

    #[test]
    fn each_attribute_is_once_on_a_record_and_its_own_wins() {
        let exporter = InMemoryLogExporter::default();
        let provider = SdkLoggerProvider::builder()
            .with_log_processor(AddSpanFields)
            .with_simple_exporter(exporter.clone())
            .build();
        let logs = WithSpanFields {
            logs: OpenTelemetryTracingBridge::new(&provider),
            is_on: true,
        };
        with_default(registry().with(layers::context()).with(logs), || {
            let outer = info_span!("outer", shelf = 1, title = 1).entered();
            info_span!("inner", shelf = 2).in_scope(|| info!(title = 3, "sorted"));
            drop(outer);
        });
        let logs = exporter.get_emitted_logs().unwrap();
        let attributes = logs[0].record.attributes_iter();
        let mut attributes: Vec<_> = attributes
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        attributes.sort();
        assert_eq!(attributes, ["shelf=Int(2)", "title=Int(3)"]);
    }
}
