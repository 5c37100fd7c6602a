//! Pipeline statistics: counts of the spans, log records and Sentry events of this process that
//! were created, dropped, exported and lost.
//!
//! The processors and exporters of this crate increment the counts. [`PipelineStats::observe`]
//! reports them as metrics, and [`Telemetry::shutdown`](crate::Telemetry::shutdown) prints the
//! losses.
//!
//! Names: <https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/>.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use opentelemetry::{KeyValue, metrics::ObservableCounter};
use opentelemetry_sdk::error::OTelSdkResult;

use crate::{scope, semconv};

/// The counts of one signal.
#[derive(Debug)]
pub(crate) struct PipelineStats {
    signal: &'static Signal,
    capacity: u64,
    /// `otel.component.type` of the exporter; empty for Sentry.
    exporter: &'static str,
    /// One count for each pair of [`Started`].
    started: [AtomicU64; Started::SERIES],
    created: AtomicU64,
    dropped: AtomicU64,
    /// Items taken out of the queue for export.
    dequeued: AtomicU64,
    exported: AtomicU64,
    /// Items that were not delivered, because the request failed.
    failed: AtomicU64,
    /// Items that the receiver rejected although it accepted the request.
    rejected: AtomicU64,
}

/// The `error.type` of an outcome, `None` for success, and its count.
type Outcome<'s> = (Option<&'static str>, &'s AtomicU64);

/// The names of the metrics of a signal, and the unit of its items.
#[derive(Debug)]
pub(crate) struct Signal {
    unit: &'static str,
    created: &'static str,
    processed: &'static str,
    queue_size: &'static str,
    queue_capacity: &'static str,
    exported: &'static str,
    /// `otel.component.type` of the processor; empty for Sentry, which has none.
    processor: &'static str,
}

pub(crate) static SPANS: Signal = Signal {
    unit: "{span}",
    created: "otel.sdk.span.started",
    processed: "otel.sdk.processor.span.processed",
    queue_size: "otel.sdk.processor.span.queue.size",
    queue_capacity: "otel.sdk.processor.span.queue.capacity",
    exported: "otel.sdk.exporter.span.exported",
    processor: "batching_span_processor",
};

pub(crate) static LOGS: Signal = Signal {
    unit: "{log_record}",
    created: "otel.sdk.log.created",
    processed: "otel.sdk.processor.log.processed",
    queue_size: "otel.sdk.processor.log.queue.size",
    queue_capacity: "otel.sdk.processor.log.queue.capacity",
    exported: "otel.sdk.exporter.log.exported",
    processor: "batching_log_processor",
};

#[cfg(feature = "sentry")]
pub(crate) static SENTRY_EVENTS: Signal = Signal {
    unit: "{event}",
    created: "telemetry_common.sentry.event.created",
    processed: "telemetry_common.sentry.event.processed",
    queue_size: "telemetry_common.sentry.event.queue.size",
    queue_capacity: "telemetry_common.sentry.event.queue.capacity",
    exported: "telemetry_common.sentry.event.exported",
    processor: "",
};

/// How a span started: the origin of its parent, and the sampling decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) origin: ParentOrigin,
    pub(crate) sampling: Sampling,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ParentOrigin {
    None,
    Local,
    Remote,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Sampling {
    Drop,
    RecordOnly,
    RecordAndSample,
}

impl Started {
    const SERIES: usize = 9;
    /// The series of a signal that has neither parents nor sampling.
    const PLAIN: Self = Self {
        origin: ParentOrigin::None,
        sampling: Sampling::Drop,
    };

    fn index(self) -> usize {
        self.origin as usize * 3 + self.sampling as usize
    }

    /// Returns the attributes of the series at `index`.
    fn attributes(index: usize) -> [KeyValue; 2] {
        const ORIGINS: [&str; 3] = ["none", "local", "remote"];
        const RESULTS: [&str; 3] = ["DROP", "RECORD_ONLY", "RECORD_AND_SAMPLE"];
        [
            KeyValue::new(semconv::OTEL_SPAN_PARENT_ORIGIN, ORIGINS[index / 3]),
            KeyValue::new(semconv::OTEL_SPAN_SAMPLING_RESULT, RESULTS[index % 3]),
        ]
    }
}

impl PipelineStats {
    /// `capacity` is the maximum number of items in the queue, and `exporter` is the
    /// `otel.component.type` of the exporter.
    pub(crate) fn new(
        signal: &'static Signal,
        capacity: usize,
        exporter: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self {
            signal,
            exporter,
            capacity: capacity as u64,
            started: Default::default(),
            created: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dequeued: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        })
    }

    /// Counts a created item.
    pub(crate) fn count_created(&self) {
        self.count_started(Started::PLAIN);
    }

    /// Counts a span that started, recorded or not.
    pub(crate) fn count_started(&self, started: Started) {
        self.started[started.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the queue has space for one more item. If not, counts the item as dropped.
    pub(crate) fn admit(&self) -> bool {
        self.created.fetch_add(1, Ordering::Relaxed);
        let admitted = self.queued() <= self.capacity;
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn queued(&self) -> u64 {
        let removed = read(&self.dequeued) + read(&self.dropped);
        read(&self.created).saturating_sub(removed)
    }

    pub(crate) fn count_dequeued(&self, count: usize) {
        self.dequeued.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts the items of a batch whose export ended. `rejected` of them were rejected.
    pub(crate) fn count_exported(&self, count: usize, rejected: u64, outcome: &OTelSdkResult) {
        let count = count as u64;
        if outcome.is_ok() {
            let rejected = rejected.min(count);
            self.rejected.fetch_add(rejected, Ordering::Relaxed);
            self.exported.fetch_add(count - rejected, Ordering::Relaxed);
        } else {
            self.failed.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns how many items were queued or dropped, and how many of them were not delivered.
    pub(crate) fn created_and_lost(&self) -> (u64, u64) {
        let created = read(&self.created);
        (created, created.saturating_sub(read(&self.exported)))
    }

    /// Creates metrics that read the counts at each export.
    pub(crate) fn observe(self: &Arc<Self>) {
        self.observe_started();
        let processor = component(self.signal.processor);
        let exporter = component(self.exporter);
        self.observe_outcomes(
            self.signal.processed,
            "Number of items that left the queue, or were dropped because it was full",
            processor.clone(),
            |stats| {
                vec![
                    (None, &stats.dequeued),
                    (Some("queue_full"), &stats.dropped),
                ]
            },
        );
        self.observe_outcomes(
            self.signal.exported,
            "Number of items whose export ended: delivered, failed or rejected",
            exporter,
            |stats| {
                vec![
                    (None, &stats.exported),
                    (Some("_OTHER"), &stats.failed),
                    (Some("rejected"), &stats.rejected),
                ]
            },
        );
        let queued = "Number of items in the queue";
        self.observe_amount(
            self.signal.queue_size,
            queued,
            processor.clone(),
            Self::queued,
        );
        let capacity = "Maximum number of items in the queue";
        let name = self.signal.queue_capacity;
        self.observe_amount(name, capacity, processor, |stats| stats.capacity);
    }

    /// Creates the metric of created items. Spans are counted by parent and sampling decision, log
    /// records and events without attributes.
    fn observe_started(self: &Arc<Self>) {
        let stats = Arc::clone(self);
        let is_span = self.signal.created == SPANS.created;
        let _: ObservableCounter<u64> = scope::meter()
            .u64_observable_counter(self.signal.created)
            .with_unit(self.signal.unit)
            .with_description("Number of created items")
            .with_callback(move |observer| {
                for (index, count) in stats.started.iter().map(read).enumerate() {
                    if is_span && (count > 0 || index == Started::SERIES - 1) {
                        observer.observe(count, &Started::attributes(index));
                    } else if !is_span && index == Started::PLAIN.index() {
                        observer.observe(count, &[]);
                    }
                }
            })
            .build();
    }

    fn observe_outcomes(
        self: &Arc<Self>,
        name: &'static str,
        description: &'static str,
        component: Vec<KeyValue>,
        outcomes: fn(&Self) -> Vec<Outcome<'_>>,
    ) {
        let stats = Arc::clone(self);
        scope::meter()
            .u64_observable_counter(name)
            .with_unit(self.signal.unit)
            .with_description(description)
            .with_callback(move |observer| {
                for (error_type, count) in outcomes(&stats) {
                    let mut attributes = component.clone();
                    let error_type =
                        error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name));
                    attributes.extend(error_type);
                    observer.observe(read(count), &attributes);
                }
            })
            .build();
    }

    fn observe_amount(
        self: &Arc<Self>,
        name: &'static str,
        description: &'static str,
        component: Vec<KeyValue>,
        amount: fn(&Self) -> u64,
    ) {
        let stats = Arc::clone(self);
        scope::meter()
            .i64_observable_up_down_counter(name)
            .with_unit(self.signal.unit)
            .with_description(description)
            .with_callback(move |observer| {
                observer.observe(amount(&stats).cast_signed(), &component);
            })
            .build();
    }
}

/// Returns the attributes that identify a component of the SDK. An empty `kind` has none.
pub(crate) fn component(kind: &'static str) -> Vec<KeyValue> {
    if kind.is_empty() {
        return Vec::new();
    }
    vec![
        KeyValue::new(semconv::OTEL_COMPONENT_TYPE, kind),
        KeyValue::new(semconv::OTEL_COMPONENT_NAME, format!("{kind}/0")),
    ]
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn a_full_queue_drops_and_the_counts_add_up() {
        let stats = PipelineStats::new(&SPANS, 3, "");
        let admitted = (0..5).filter(|_| stats.admit()).count();
        assert_eq!((admitted, read(&stats.dropped), stats.queued()), (3, 2, 3));
        stats.count_dequeued(3);
        stats.count_exported(2, 1, &Ok(()));
        stats.count_exported(1, 0, &Err(OTelSdkError::AlreadyShutdown));
        assert!(stats.admit(), "the queue has space again");
        let losses = "two dropped, one rejected, one failed, one queued";
        assert_eq!(stats.created_and_lost(), (6, 5), "{losses}");
    }
}
