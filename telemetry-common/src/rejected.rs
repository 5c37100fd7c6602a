//! Counts the items that a receiver rejected although it accepted the request: the partial success
//! of OTLP, <https://opentelemetry.io/docs/specs/otlp/#partial-success>.
//!
//! The OTLP exporters log the number of rejected items and return `Ok`. [`RejectedLayer`] reads the
//! number from that log event, on the thread of the export. The exporter that wraps the OTLP
//! exporter reads it with [`take`].

use std::{cell::Cell, fmt};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, Targets},
    layer::Context,
    registry::LookupSpan,
};

use crate::subscriber::always_evaluated;

thread_local! {
    static REJECTED: Cell<u64> = const { Cell::new(0) };
}

/// Returns how many items were rejected on this thread since the last call, and resets the number.
pub(crate) fn take() -> u64 {
    REJECTED.take()
}

/// Returns the layer that reads the log events of the OTLP exporters.
pub(crate) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let exporters = Targets::new().with_target("opentelemetry-otlp", Level::WARN);
    RejectedLayer.with_filter(exporters.and(always_evaluated(|_| true)))
}

struct RejectedLayer;

impl<S: Subscriber> Layer<S> for RejectedLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().name().ends_with(".PartialSuccess") {
            event.record(&mut Visitor);
        }
    }
}

struct Visitor;

impl Visit for Visitor {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name().starts_with("rejected_") {
            let value = u64::try_from(value).unwrap_or_default();
            REJECTED.set(REJECTED.get() + value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
