//! The instruments of this service. Ids are attributes of spans and never of metrics, because of
//! their cardinality.

use book_events::BookEvent;
use jiff::Timestamp;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use telemetry_common::{meter_of, semconv, service};

use crate::ingestion::IngestionError;

/// The bucket boundaries of the ingestion delay, in seconds. The highest ones show outages.
const DELAY_BOUNDARIES: [f64; 12] = [
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

/// The bucket boundaries of the number of messages that are processed together.
const BATCH_BOUNDARIES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The instruments. They are built once, after the start of telemetry. Every known series starts at
/// zero, so that a dashboard shows zero instead of no data.
#[derive(Clone)]
pub(crate) struct Metrics {
    batch_size: Histogram<u64>,
    retries: Counter<u64>,
    dead_letters: Counter<u64>,
    ingestion_delay: Histogram<f64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = meter_of(service!());
        let metrics = Self {
            batch_size: meter
                .u64_histogram("bookapp.consumer.batch.size")
                .with_unit("{message}")
                .with_description("Number of messages that were processed together")
                .with_boundaries(BATCH_BOUNDARIES.to_vec())
                .build(),
            retries: meter
                .u64_counter("bookapp.consumer.retries")
                .with_unit("{attempt}")
                .with_description("Number of failed processing attempts that are retried")
                .build(),
            dead_letters: meter
                .u64_counter("bookapp.consumer.dead_letters")
                .with_unit("{message}")
                .with_description("Number of messages sent to the dead-letter topic")
                .build(),
            ingestion_delay: meter
                .f64_histogram("bookapp.ingestion.delay")
                .with_unit("s")
                .with_boundaries(DELAY_BOUNDARIES.to_vec())
                .with_description("Time from a change of a book to that of its details. It compares the clocks of two services")
                .build(),
        };
        for kind in IngestionError::KINDS {
            let kind = [KeyValue::new(semconv::ERROR_TYPE, kind)];
            metrics.retries.add(0, &kind);
            metrics.dead_letters.add(0, &kind);
        }
        metrics
    }

    /// Records the ingestion delay of an event. Call it after the details are committed.
    pub(crate) fn ingested(&self, event: &BookEvent) {
        // The clock of the other service may be ahead, so the difference may be negative.
        let delay = Timestamp::now().duration_since(event.occurred_at);
        self.ingestion_delay
            .record(delay.as_secs_f64().max(0.0), &[]);
    }

    /// Records that this number of messages was processed together.
    pub(crate) fn batch(&self, messages: usize) {
        self.batch_size.record(messages as u64, &[]);
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
