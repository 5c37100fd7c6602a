//! Counts the items that a receiver rejected although it accepted the request: the partial success
//! of OTLP, <https://opentelemetry.io/docs/specs/otlp/#partial-success>.
//!
//! The OTLP exporters log the number of rejected items and return `Ok`. [`ReadRejections`] reads the
//! number from that log event, on the thread of the export. The exporter that wraps the OTLP
//! exporter reads it with [`take`].

use std::{cell::Cell, fmt};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// The target of the log events of the OTLP exporters.
pub(crate) const OTLP_EXPORTER: &str = "opentelemetry-otlp";

thread_local! {
    static REJECTED: Cell<u64> = const { Cell::new(0) };
}

/// Returns how many items were rejected on this thread since the last call, and resets the number.
pub(crate) fn take() -> u64 {
    REJECTED.take()
}

/// A layer that reads the log events of the OTLP exporters, and passes all others to the layer that
/// exports log records, if there is one.
///
/// It is not a layer of its own: each layer with a filter looks up the span at every poll.
pub(crate) struct ReadRejections<L>(pub(crate) Option<L>);

impl<S: Subscriber, L: Layer<S>> Layer<S> for ReadRejections<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == OTLP_EXPORTER {
            if event.metadata().name().ends_with(".PartialSuccess") {
                event.record(&mut Visitor);
            }
        } else if let Some(logs) = &self.0 {
            logs.on_event(event, context);
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
