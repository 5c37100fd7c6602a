//! The instruments of this service; ids go to spans, never here.

use book_events::BookAdded;
use jiff::Timestamp;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use telemetry_common::{meter_of, semconv, service};

use crate::ingestion::IngestionError;

/// In seconds: from at once to an outage of an hour.
const DELAYS: [f64; 12] = [
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

/// Built once, after telemetry; every known series begins at zero, and so does a dashboard.
#[derive(Clone)]
pub(crate) struct Metrics {
    retries: Counter<u64>,
    dead_letters: Counter<u64>,
    ingestion_delay: Histogram<f64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = meter_of(service!());
        let metrics = Self {
            retries: meter
                .u64_counter("bookapp.consumer.retries")
                .with_unit("{attempt}")
                .with_description("Attempts at a message that failed and will be tried again")
                .build(),
            dead_letters: meter
                .u64_counter("bookapp.consumer.dead_letters")
                .with_unit("{message}")
                .with_description("Messages handed to the dead-letter topic")
                .build(),
            ingestion_delay: meter
                .f64_histogram("bookapp.ingestion.delay")
                .with_unit("s")
                .with_boundaries(DELAYS.to_vec())
                .with_description("From when a book was written down to when its details were")
                .build(),
        };
        for kind in IngestionError::KINDS {
            let kind = [KeyValue::new(semconv::ERROR_TYPE, kind)];
            metrics.retries.add(0, &kind);
            metrics.dead_letters.add(0, &kind);
        }
        metrics
    }

    /// The details of this event's book were just committed.
    pub(crate) fn ingested(&self, event: &BookAdded) {
        // Of two clocks, and the other may be ahead.
        let delay = Timestamp::now().duration_since(event.occurred_at);
        self.ingestion_delay
            .record(delay.as_secs_f64().max(0.0), &[]);
    }

    pub(crate) fn retries(&self, error_type: &'static str) {
        self.retries
            .add(1, &[KeyValue::new(semconv::ERROR_TYPE, error_type)]);
    }

    pub(crate) fn dead_letters(&self, error_type: &'static str) {
        self.dead_letters
            .add(1, &[KeyValue::new(semconv::ERROR_TYPE, error_type)]);
    }
}
