//! Pipeline statistics: counts of the spans, log records and Sentry events of this process that
//! were dropped, exported and lost. Log records and events are also counted when they are created,
//! and the sampler counts spans when they start.
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

use opentelemetry::KeyValue;
use opentelemetry_sdk::error::OTelSdkResult;

use crate::{scope, semconv};

/// The counts of one signal.
#[derive(Debug)]
pub(crate) struct PipelineStats {
    signal: &'static Signal,
    capacity: u64,
    /// `otel.component.type` of the processor and of the exporter; empty for Sentry.
    components: Components,
    /// Items that reached the queue: ended sampled spans, log records, or Sentry events.
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

/// The values of `otel.component.type` for the components of a pipeline.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Components {
    pub(crate) processor: &'static str,
    pub(crate) exporter: &'static str,
}

/// The names of the metrics of a signal, and the unit of its items.
#[derive(Debug)]
pub(crate) struct Signal {
    unit: &'static str,
    /// `None` for spans: the sampler counts them.
    created: Option<&'static str>,
    processed: &'static str,
    queue_size: &'static str,
    queue_capacity: &'static str,
    exported: &'static str,
}

pub(crate) static SPANS: Signal = Signal {
    unit: "{span}",
    created: None,
    processed: "otel.sdk.processor.span.processed",
    queue_size: "otel.sdk.processor.span.queue.size",
    queue_capacity: "otel.sdk.processor.span.queue.capacity",
    exported: "otel.sdk.exporter.span.exported",
};

pub(crate) static LOGS: Signal = Signal {
    unit: "{log_record}",
    created: Some("otel.sdk.log.created"),
    processed: "otel.sdk.processor.log.processed",
    queue_size: "otel.sdk.processor.log.queue.size",
    queue_capacity: "otel.sdk.processor.log.queue.capacity",
    exported: "otel.sdk.exporter.log.exported",
};

#[cfg(feature = "sentry")]
pub(crate) static SENTRY_EVENTS: Signal = Signal {
    unit: "{event}",
    created: Some("telemetry_common.sentry.event.created"),
    processed: "telemetry_common.sentry.event.processed",
    queue_size: "telemetry_common.sentry.event.queue.size",
    queue_capacity: "telemetry_common.sentry.event.queue.capacity",
    exported: "telemetry_common.sentry.event.exported",
};

impl PipelineStats {
    /// `capacity` is the maximum number of items in the queue.
    pub(crate) fn new(
        signal: &'static Signal,
        capacity: usize,
        components: Components,
    ) -> Arc<Self> {
        Arc::new(Self {
            signal,
            components,
            capacity: capacity as u64,
            created: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dequeued: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        })
    }

    /// Counts an item as created. Returns whether the queue has space for it; if not, counts it as
    /// dropped too.
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

    /// Returns how many items were created, and how many of them were not delivered.
    pub(crate) fn created_and_lost(&self) -> (u64, u64) {
        let created = read(&self.created);
        (created, created.saturating_sub(read(&self.exported)))
    }

    /// Creates metrics that read the counts at each export.
    pub(crate) fn observe(self: &Arc<Self>) {
        let processor = component(self.components.processor);
        if let Some(name) = self.signal.created {
            let created = "Number of created items";
            self.observe_outcomes(name, created, Vec::new(), |stats| {
                vec![(None, &stats.created)]
            });
        }
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
            component(self.components.exporter),
            |stats| {
                vec![
                    (None, &stats.exported),
                    (Some("_OTHER"), &stats.failed),
                    (Some("rejected"), &stats.rejected),
                ]
            },
        );
        self.observe_amount(
            self.signal.queue_size,
            "Number of items in the queue",
            processor.clone(),
            Self::queued,
        );
        self.observe_amount(
            self.signal.queue_capacity,
            "Maximum number of items in the queue",
            processor,
            |stats| stats.capacity,
        );
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
        let stats = PipelineStats::new(&SPANS, 3, Components::default());
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
