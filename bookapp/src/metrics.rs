//! The instruments of this service; ids go to spans, never here.

use opentelemetry::{KeyValue, metrics::Counter};
use telemetry_common::{meter_of, service};

/// Built once, after telemetry; every known series begins at zero, and so does a dashboard.
#[derive(Clone)]
pub(crate) struct Metrics {
    books_added: Counter<u64>,
    /// Who opened the start page.
    pub(crate) visitors: Counter<u64>,
    /// Lists that went without details.
    pub(crate) lists_degraded: Counter<u64>,
}

/// How books were added.
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
                .with_description("Books that were added")
                .build(),
            visitors: meter
                .u64_counter("bookapp.visitors")
                .with_unit("{visitor}")
                .with_description("Times the start page was opened")
                .build(),
            lists_degraded: meter
                .u64_counter("bookapp.lists.degraded")
                .with_unit("{list}")
                .with_description("Lists that went without details")
                .build(),
        };
        metrics.books_added(0, AddedBy::Single);
        metrics.books_added(0, AddedBy::Bulk);
        metrics.visitors.add(0, &[]);
        metrics.lists_degraded.add(0, &[]);
        metrics
    }

    pub(crate) fn books_added(&self, books: usize, by: AddedBy) {
        self.books_added.add(books as u64, &[by.attribute()]);
    }
}
