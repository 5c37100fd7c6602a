//! Telemetry about telemetry: what became of everything one signal made.
//!
//! A [`BoundedProcessor`] in front of the SDK's queue counts what is made, and drops what finds the queue full,
//! so that the number is ours to tell; the exporters in `tidy` count what leaves.
//!
//! Names: <https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/>.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, InstrumentationScope, KeyValue, logs::Severity};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
    trace::{Span, SpanData, SpanProcessor},
};

use crate::scope;

/// The account of one signal.
#[derive(Debug)]
pub(crate) struct PipelineStats {
    signal: &'static Signal,
    capacity: u64,
    started: AtomicU64,
    created: AtomicU64,
    dropped: AtomicU64,
    /// Taken out of the queue, to be exported.
    dequeued: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
}

/// A number without an `error.type`, and one with it.
type Split = [(Option<&'static str>, u64); 2];

/// What a signal's metrics are called.
#[derive(Debug)]
pub(crate) struct Signal {
    unit: &'static str,
    created: &'static str,
    processed: &'static str,
    queue_size: &'static str,
    queue_capacity: &'static str,
    exported: &'static str,
}

pub(crate) static SPANS: Signal = Signal {
    unit: "{span}",
    created: "otel.sdk.span.started",
    processed: "otel.sdk.processor.span.processed",
    queue_size: "otel.sdk.processor.span.queue.size",
    queue_capacity: "otel.sdk.processor.span.queue.capacity",
    exported: "otel.sdk.exporter.span.exported",
};

pub(crate) static LOGS: Signal = Signal {
    unit: "{log_record}",
    created: "otel.sdk.log.created",
    processed: "otel.sdk.processor.log.processed",
    queue_size: "otel.sdk.processor.log.queue.size",
    queue_capacity: "otel.sdk.processor.log.queue.capacity",
    exported: "otel.sdk.exporter.log.exported",
};

#[cfg(feature = "sentry")]
pub(crate) static SENTRY_EVENTS: Signal = Signal {
    unit: "{event}",
    created: "telemetry.sentry.event.created",
    processed: "telemetry.sentry.event.processed",
    queue_size: "telemetry.sentry.event.queue.size",
    queue_capacity: "telemetry.sentry.event.queue.capacity",
    exported: "telemetry.sentry.event.exported",
};

impl PipelineStats {
    pub(crate) fn new(signal: &'static Signal, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            signal,
            capacity: capacity as u64,
            started: AtomicU64::new(0),
            created: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dequeued: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    pub(crate) fn count_started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is room for one more; else it is counted as dropped.
    pub(crate) fn admit(&self) -> bool {
        self.created.fetch_add(1, Ordering::Relaxed);
        let admitted = self.queued() <= self.capacity;
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn queued(&self) -> u64 {
        let gone = read(&self.dequeued) + read(&self.dropped);
        read(&self.created).saturating_sub(gone)
    }

    pub(crate) fn count_dequeued(&self, count: usize) {
        self.dequeued.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_exported(&self, count: usize, outcome: &OTelSdkResult) {
        let account = if outcome.is_ok() {
            &self.exported
        } else {
            &self.failed
        };
        account.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// How many were made, and how many of them were not delivered.
    pub(crate) fn created_and_lost(&self) -> (u64, u64) {
        let created = read(&self.created);
        (created, created.saturating_sub(read(&self.exported)))
    }

    /// Metrics that read this account whenever they are exported.
    pub(crate) fn observe(self: &Arc<Self>) {
        let meter = scope::meter();
        let signal = self.signal;
        let count = |name, description, read: fn(&Self) -> Split| {
            let stats = Arc::clone(self);
            meter
                .u64_observable_counter(name)
                .with_unit(signal.unit)
                .with_description(description)
                .with_callback(move |seen| {
                    for (error_type, count) in read(&stats) {
                        let error_type = error_type.map(|name| KeyValue::new("error.type", name));
                        seen.observe(count, error_type.as_slice());
                    }
                })
                .build();
        };
        count(
            signal.processed,
            "Left the queue, or found it full",
            |stats| {
                [
                    (None, read(&stats.dequeued)),
                    (Some("queue_full"), read(&stats.dropped)),
                ]
            },
        );
        count(signal.exported, "Delivered, or given up", |stats| {
            [
                (None, read(&stats.exported)),
                (Some("_OTHER"), read(&stats.failed)),
            ]
        });
        let stats = Arc::clone(self);
        meter
            .u64_observable_counter(signal.created)
            .with_unit(signal.unit)
            .with_description("Made")
            .with_callback(move |seen| seen.observe(read(&stats.started), &[]))
            .build();
        for (name, description, read) in [
            (
                signal.queue_size,
                "Wait for export",
                Self::queued as fn(&Self) -> u64,
            ),
            (signal.queue_capacity, "May wait for export", |stats| {
                stats.capacity
            }),
        ] {
            let stats = Arc::clone(self);
            meter
                .i64_observable_up_down_counter(name)
                .with_unit(signal.unit)
                .with_description(description)
                .with_callback(move |seen| seen.observe(read(&stats).cast_signed(), &[]))
                .build();
        }
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// A processor behind a stats.
#[derive(Debug)]
pub(crate) struct BoundedProcessor<P> {
    pub(crate) processor: P,
    pub(crate) stats: Arc<PipelineStats>,
}

impl<P: SpanProcessor> SpanProcessor for BoundedProcessor<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.stats.count_started();
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.stats.admit() {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for BoundedProcessor<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.stats.count_started();
        if self.stats.admit() {
            self.processor.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.processor.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_the_account_adds_up() {
        let stats = PipelineStats::new(&SPANS, 3);
        let admitted = (0..5).filter(|_| stats.admit()).count();
        assert_eq!((admitted, read(&stats.dropped), stats.queued()), (3, 2, 3));
        stats.count_dequeued(3);
        stats.count_exported(2, &Ok(()));
        stats.count_exported(
            1,
            &Err(opentelemetry_sdk::error::OTelSdkError::AlreadyShutdown),
        );
        assert!(stats.admit(), "there is room again");
        assert_eq!(
            stats.created_and_lost(),
            (6, 4),
            "two dropped, one failed, one waits"
        );
    }
}
