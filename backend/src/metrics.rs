//! The instruments of this service; ids go to spans, never here.

use opentelemetry::{KeyValue, global, metrics::Counter};
use telemetry_common::semconv;

use crate::ingestion::IngestionError;

/// Built once, after telemetry; every known series begins at zero, and so does a dashboard.
#[derive(Clone)]
pub(crate) struct Metrics {
    retries: Counter<u64>,
    dead_letters: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("backend");
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
        };
        for kind in IngestionError::KINDS {
            let kind = [KeyValue::new(semconv::ERROR_TYPE, kind)];
            metrics.retries.add(0, &kind);
            metrics.dead_letters.add(0, &kind);
        }
        metrics
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
