//! Normalizes spans, log records and metrics before they are exported, and counts the exports.
//!
//! - Spans: by the specification, setting an attribute again overwrites its value, but the SDK
//!   keeps both values. This module keeps the last value of a key.
//! - Scopes: the tracing layer and the log appender use the same scope for all items. This module
//!   sets the scope of the crate that created an item.
//! - Log records: tracing names an unnamed event after its source location, which is not an event
//!   name. This module removes such a name, and adds a timestamp and the current [`RequestId`].
//! - Metrics: the SDK caps the number of series of an instrument without a log record. This module
//!   logs the first capped export of an instrument.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
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

use crate::{
    RequestId,
    pipeline_stats::{PipelineStats, component},
    rejected,
    scope::{self, Scopes},
    semconv,
};

/// The attribute in which the tracing layer passes the module that created a span.
const TARGET: &str = "target";

/// A span exporter that normalizes each span and counts the exports.
#[derive(Debug)]
pub(crate) struct NormalizingSpanExporter<E> {
    pub(crate) exporter: E,
    pub(crate) stats: Arc<PipelineStats>,
    /// The maximum length of a string attribute, in characters.
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
        self.stats.count_exported(count, rejected::take(), &outcome);
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
    // A span has few attributes, so comparing them is faster than hashing.
    for index in (0..attributes.len()).rev() {
        let KeyValue { key, value, .. } = &attributes[index];
        if key.as_str() == TARGET {
            if let Some(scope) = Scopes::of_span(&value.as_str()) {
                span.instrumentation_scope = scope.clone();
            }
            attributes.remove(index);
            continue;
        }
        let mut later = attributes[index + 1..].iter();
        if later.any(|it| it.key == *key) {
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

/// A log exporter that sets the scope of each record and counts the exports.
#[derive(Debug)]
pub(crate) struct CountingLogExporter<E> {
    pub(crate) exporter: E,
    pub(crate) stats: Arc<PipelineStats>,
}

impl<E: LogExporter> LogExporter for CountingLogExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records: Vec<_> = batch
            .iter()
            .map(|(record, scope)| {
                let is_event = record.event_name().is_some_and(|name| !name.is_empty());
                let target = record.target().map_or("", |target| target.as_ref());
                (record, Scopes::of_log(target, is_event).unwrap_or(scope))
            })
            .collect();
        self.stats.count_dequeued(records.len());
        let outcome = self.exporter.export(LogBatch::new(&records)).await;
        let rejected = rejected::take();
        self.stats.count_exported(records.len(), rejected, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Removes event names that tracing generated, and adds the timestamp and the current
/// [`RequestId`].
#[derive(Debug)]
pub(crate) struct NormalizingLogProcessor;

impl LogProcessor for NormalizingLogProcessor {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        // tracing generates "event file:line", and the bridge from the log crate "log event".
        if record
            .event_name()
            .is_some_and(|name| name.starts_with("event ") || name == "log event")
        {
            record.set_event_name("");
        }
        record.set_timestamp(SystemTime::now());
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

/// A metric exporter that counts the exports, and logs once for each instrument when its series are
/// capped.
#[derive(Debug)]
pub(crate) struct CountingMetricExporter<E> {
    exporter: E,
    capped: Mutex<HashSet<String>>,
    exported: OnceLock<Counter<u64>>,
    rejected: Arc<AtomicU64>,
    /// The attributes that identify the exporter.
    component: Vec<KeyValue>,
}

impl<E> CountingMetricExporter<E> {
    /// `rejected` counts the data points that the receiver rejected, and `kind` is the
    /// `otel.component.type` of the exporter.
    pub(crate) fn new(exporter: E, kind: &'static str, rejected: Arc<AtomicU64>) -> Self {
        Self {
            exporter,
            capped: Mutex::default(),
            exported: OnceLock::new(),
            rejected,
            component: component(kind),
        }
    }

    /// Returns the number of data points, and logs which metrics are capped.
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
        let rejected = rejected::take().min(points);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
        // Created here and not earlier, because the meter provider is built with this exporter.
        let exported = self.exported.get_or_init(points_exported);
        let count = |points, error_type: Option<&'static str>| {
            let mut attributes = self.component.clone();
            attributes.extend(error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name)));
            exported.add(points, &attributes);
        };
        match outcome {
            Ok(()) => {
                count(points - rejected, None);
                count(rejected, Some("rejected"));
            }
            Err(_) => count(points, Some("_OTHER")),
        }
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
        .with_description("Number of data points whose export ended: delivered, failed or rejected")
        .build()
}

/// Logs on a separate thread, because log records of an exporter's thread are not exported.
fn warn_capped(name: String) {
    thread::spawn(move || {
        warn!(
            name: "telemetry_common.metric.capped",
            { { semconv::METRIC_NAME } = name },
            "{name} has too many series: those beyond the limit are aggregated into one"
        );
    });
}

/// Returns the number of points, and whether one of them is the overflow series.
fn points<T>(data: &MetricData<T>) -> (u64, bool) {
    let (mut count, mut is_capped) = (0, false);
    let mut count_point = |mut attributes: Box<dyn Iterator<Item = &KeyValue> + '_>| {
        count += 1;
        is_capped |= attributes.any(|attribute| attribute.key.as_str() == "otel.metric.overflow");
    };
    match data {
        MetricData::Gauge(gauge) => gauge
            .data_points()
            .for_each(|point| count_point(Box::new(point.attributes()))),
        MetricData::Sum(sum) => sum
            .data_points()
            .for_each(|point| count_point(Box::new(point.attributes()))),
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .for_each(|point| count_point(Box::new(point.attributes()))),
        MetricData::ExponentialHistogram(histogram) => histogram
            .data_points()
            .for_each(|point| count_point(Box::new(point.attributes()))),
    }
    (count, is_capped)
}
