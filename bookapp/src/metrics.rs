//! The instruments of this service; ids go to spans, never here.

use opentelemetry::{global, metrics::Counter};

/// Built once, after telemetry.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Books that were added.
    pub(crate) books_added: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("bookapp");
        let books_added = meter
            .u64_counter("bookapp.books.added")
            .with_unit("{book}")
            .with_description("Books that were added")
            .build();
        // From the start, so that a dashboard begins at zero.
        books_added.add(0, &[]);
        Self { books_added }
    }
}
