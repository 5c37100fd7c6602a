//! The instruments of this service. Ids are attributes of spans and never of metrics, because of
//! their cardinality.

use opentelemetry::{KeyValue, metrics::Counter};
use telemetry_common::{meter_of, service};

/// The instruments. They are built once, after the start of telemetry. Every known series starts at
/// zero, so that a dashboard shows zero instead of no data.
#[derive(Clone)]
pub(crate) struct Metrics {
    books_added: Counter<u64>,
    /// Counts how often a browser opened the start page.
    pub(crate) visitors: Counter<u64>,
    /// Counts the lists returned without details.
    pub(crate) lists_degraded: Counter<u64>,
    /// Counts the messages of the outbox that can never be sent.
    pub(crate) quarantined: Counter<u64>,
}

/// The kind of request that added the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddedBy {
    Single,
    Bulk,
}

impl AddedBy {
    fn attribute(self) -> KeyValue {
        let value = match self {
            Self::Single => "single",
            Self::Bulk => "bulk",
        };
        KeyValue::new("bookapp.books.added.by", value)
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = meter_of(service!());
        let metrics = Self {
            books_added: meter
                .u64_counter("bookapp.books.added")
                .with_unit("{book}")
                .with_description("Number of added books")
                .build(),
            visitors: meter
                .u64_counter("bookapp.visitors")
                .with_unit("{visitor}")
                .with_description("Number of times that a browser opened the start page")
                .build(),
            lists_degraded: meter
                .u64_counter("bookapp.lists.degraded")
                .with_unit("{list}")
                .with_description("Number of book lists returned without details, because backend was not available")
                .build(),
            quarantined: meter
                .u64_counter("bookapp.outbox.quarantined")
                .with_unit("{message}")
                .with_description("Number of messages that can never be sent to Kafka")
                .build(),
        };
        metrics.books_added(0, AddedBy::Single);
        metrics.books_added(0, AddedBy::Bulk);
        metrics.visitors.add(0, &[]);
        metrics.lists_degraded.add(0, &[]);
        metrics.quarantined.add(0, &[]);
        metrics
    }

    pub(crate) fn books_added(&self, books: usize, by: AddedBy) {
        self.books_added.add(books as u64, &[by.attribute()]);
    }
}
