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
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use opentelemetry::{InstrumentationScope, KeyValue, logs::LogRecord as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
    metrics::{
        Temporality,
        data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics},
        exporter::PushMetricExporter,
    },
    trace::{SpanData, SpanExporter},
};
use tracing::warn;

use crate::{RequestId, semconv};

/// A span exporter that tidies each span on its way.
#[derive(Debug)]
pub(crate) struct TidySpans<E>(pub(crate) E);

impl<E: SpanExporter> SpanExporter for TidySpans<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(tidy);
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn tidy(span: &mut SpanData) {
    let mut seen = HashSet::with_capacity(span.attributes.len());
    span.attributes.reverse();
    span.attributes.retain(|attribute| {
        attribute.key.as_str() != "span.type"
            && attribute.value.as_str() != ""
            && seen.insert(attribute.key.clone())
    });
    span.attributes.reverse();
}

/// Takes made-up event names off log records, and writes the current [`RequestId`] on them.
#[derive(Debug)]
pub(crate) struct TidyLogs;

impl LogProcessor for TidyLogs {
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

/// A metric exporter that says, once for each instrument, when its series are capped.
#[derive(Debug)]
pub(crate) struct TidyMetrics<E> {
    exporter: E,
    capped: Mutex<HashSet<String>>,
}

impl<E> TidyMetrics<E> {
    pub(crate) fn new(exporter: E) -> Self {
        Self {
            exporter,
            capped: Mutex::default(),
        }
    }
}

impl<E: PushMetricExporter> PushMetricExporter for TidyMetrics<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        for metric in metrics.scope_metrics().flat_map(ScopeMetrics::metrics) {
            let mut capped = self.capped.lock().unwrap_or_else(PoisonError::into_inner);
            if is_capped(metric) && capped.insert(metric.name().to_owned()) {
                say_capped(metric.name().to_owned());
            }
        }
        self.exporter.export(metrics).await
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

/// On a thread of its own: what an exporter's thread says is not exported.
fn say_capped(name: String) {
    thread::spawn(move || {
        warn!(
            name: "telemetry.metric.capped",
            { { semconv::METRIC_NAME } = name },
            "{name} has too many series, what exceeds them is counted together"
        );
    });
}

fn is_capped(metric: &Metric) -> bool {
    match metric.data() {
        AggregatedMetrics::F64(data) => has_overflow(data),
        AggregatedMetrics::U64(data) => has_overflow(data),
        AggregatedMetrics::I64(data) => has_overflow(data),
    }
}

fn has_overflow<T>(data: &MetricData<T>) -> bool {
    fn marks<'a>(mut attributes: impl Iterator<Item = &'a KeyValue>) -> bool {
        attributes.any(|attribute| attribute.key.as_str() == "otel.metric.overflow")
    }
    match data {
        MetricData::Gauge(gauge) => gauge.data_points().any(|point| marks(point.attributes())),
        MetricData::Sum(sum) => sum.data_points().any(|point| marks(point.attributes())),
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .any(|point| marks(point.attributes())),
        MetricData::ExponentialHistogram(histogram) => histogram
            .data_points()
            .any(|point| marks(point.attributes())),
    }
}
