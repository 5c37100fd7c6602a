//! Spans, log records and metrics as the specification wants them, whatever an instrumentation
//! wrote.
//!
//! - The specification says that setting an attribute again overwrites it; the SDK keeps both.
//!   axum-tracing-opentelemetry writes empty strings for what it does not know and a vendor's
//!   `span.type`. Here the last value of a key wins, and the empty ones and the vendor's go.
//! - tracing names an event without a name after its place in the code, which is no event name.
//! - The SDK caps the series of an instrument in silence. Here it is said, once.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope, KeyValue, Value, logs::LogRecord as _, metrics::Counter,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord},
    metrics::{
        Temporality,
        data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics},
        exporter::PushMetricExporter,
    },
    trace::{SpanData, SpanExporter},
};
use tracing::warn;

use crate::{RequestId, pipeline_stats::PipelineStats, scope, semconv};

/// A span exporter that tidies each span on its way, and keeps account.
#[derive(Debug)]
pub(crate) struct NormalizingSpanExporter<E> {
    pub(crate) exporter: E,
    pub(crate) stats: Arc<PipelineStats>,
    /// How long a text may be, in characters.
    pub(crate) length_limit: Option<usize>,
}

impl<E: SpanExporter> SpanExporter for NormalizingSpanExporter<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.stats.count_dequeued(count);
        for span in &mut batch {
            normalize(span);
            if let Some(limit) = self.length_limit {
                truncate(span, limit);
            }
        }
        let outcome = self.exporter.export(batch).await;
        self.stats.count_exported(count, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn normalize(span: &mut SpanData) {
    let attributes = &mut span.attributes;
    // They are few: comparing is quicker than hashing.
    for index in (0..attributes.len()).rev() {
        let KeyValue { key, value, .. } = &attributes[index];
        let mut later = attributes[index + 1..].iter();
        if key.as_str() == "span.type" || value.as_str() == "" || later.any(|it| it.key == *key) {
            attributes.remove(index);
        }
    }
}

fn truncate(span: &mut SpanData, limit: usize) {
    for attribute in &mut span.attributes {
        if let Value::String(text) = &attribute.value
            && let Some((end, _)) = text.as_str().char_indices().nth(limit)
        {
            attribute.value = text.as_str()[..end].to_owned().into();
        }
    }
}

/// A log exporter that keeps account.
#[derive(Debug)]
pub(crate) struct CountingLogExporter<E> {
    pub(crate) exporter: E,
    pub(crate) stats: Arc<PipelineStats>,
}

impl<E: LogExporter> LogExporter for CountingLogExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.stats.count_dequeued(count);
        let outcome = self.exporter.export(batch).await;
        self.stats.count_exported(count, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Takes made-up event names off log records, and writes the current [`RequestId`] on them.
#[derive(Debug)]
pub(crate) struct NormalizingLogProcessor;

impl LogProcessor for NormalizingLogProcessor {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        if record
            .event_name()
            .is_some_and(|name| name.starts_with("event "))
        {
            record.set_event_name("");
        }
        if let Some(id) = RequestId::current() {
            record.add_attribute(semconv::REQUEST_ID, id.to_string());
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A metric exporter that keeps account, and says once for each instrument when its series are
/// capped.
#[derive(Debug)]
pub(crate) struct CountingMetricExporter<E> {
    exporter: E,
    capped: Mutex<HashSet<String>>,
    exported: OnceLock<Counter<u64>>,
}

impl<E> CountingMetricExporter<E> {
    pub(crate) fn new(exporter: E) -> Self {
        Self {
            exporter,
            capped: Mutex::default(),
            exported: OnceLock::new(),
        }
    }

    /// How many points there are; says which metrics are capped.
    fn count_points(&self, metrics: &ResourceMetrics) -> u64 {
        let mut count = 0;
        let mut capped = self.capped.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in metrics.scope_metrics().flat_map(ScopeMetrics::metrics) {
            let (points, is_capped) = match metric.data() {
                AggregatedMetrics::F64(data) => points(data),
                AggregatedMetrics::U64(data) => points(data),
                AggregatedMetrics::I64(data) => points(data),
            };
            count += points;
            if is_capped && capped.insert(metric.name().to_owned()) {
                warn_capped(metric.name().to_owned());
            }
        }
        count
    }
}

impl<E: PushMetricExporter> PushMetricExporter for CountingMetricExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let points = self.count_points(metrics);
        let outcome = self.exporter.export(metrics).await;
        let failed = KeyValue::new(semconv::ERROR_TYPE, "_OTHER");
        let labels = outcome.is_err().then_some(failed);
        // Made here and not before: the meter's provider is built around this exporter.
        let exported = self.exported.get_or_init(points_exported);
        exported.add(points, labels.as_slice());
        outcome
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

fn points_exported() -> Counter<u64> {
    scope::meter()
        .u64_counter("otel.sdk.exporter.metric_data_point.exported")
        .with_unit("{data_point}")
        .with_description("Delivered, or given up after retries")
        .build()
}

/// On a thread of its own: what an exporter's thread says is not exported.
fn warn_capped(name: String) {
    thread::spawn(move || {
        warn!(
            name: "telemetry.metric.capped",
            { { semconv::METRIC_NAME } = name },
            "{name} has too many series, what exceeds them is counted together"
        );
    });
}

/// How many points there are, and whether one of them stands for all series beyond the cap.
fn points<T>(data: &MetricData<T>) -> (u64, bool) {
    let (mut count, mut is_capped) = (0, false);
    let mut see = |mut attributes: Box<dyn Iterator<Item = &KeyValue> + '_>| {
        count += 1;
        is_capped |= attributes.any(|attribute| attribute.key.as_str() == "otel.metric.overflow");
    };
    match data {
        MetricData::Gauge(gauge) => gauge
            .data_points()
            .for_each(|point| see(Box::new(point.attributes()))),
        MetricData::Sum(sum) => sum
            .data_points()
            .for_each(|point| see(Box::new(point.attributes()))),
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .for_each(|point| see(Box::new(point.attributes()))),
        MetricData::ExponentialHistogram(histogram) => histogram
            .data_points()
            .for_each(|point| see(Box::new(point.attributes()))),
    }
    (count, is_capped)
}
