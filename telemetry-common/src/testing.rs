//! In-memory exporters for tests, and functions that return the spans, log records and metrics of
//! the tested code.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use telemetry_common::testing;
//! use tracing::{info, info_span};
//!
//! let ((), spans) = testing::spans_of(async {
//!     info_span!("sell").in_scope(|| info!("sold"));
//! })
//! .await;
//! let sell = spans.named("sell");
//! assert_eq!(sell.parent_span_id, spans.named("test").span_context.span_id());
//! assert_eq!(testing::logs_of(spans.trace_id()).len(), 1);
//! # });
//! ```
//!
//! The tests of one process share the subscriber and the providers. Each test reads only the traces
//! that it started, and the traces that are linked to them.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue, Value, global,
    trace::{TraceContextExt, TraceId},
};
use opentelemetry_sdk::{
    logs::{InMemoryLogExporter, SdkLoggerProvider, in_memory_exporter::LogDataWithResource},
    metrics::{
        InMemoryMetricExporter, SdkMeterProvider,
        data::{AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics},
    },
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use tracing::{Instrument, info_span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

use crate::{
    Propagator, TelemetryConfig,
    normalize::{CountingMetricExporter, NormalizingLogProcessor, NormalizingSpanExporter},
    panics,
    pipeline_stats::{Components, PipelineStats, SPANS},
    propagation,
    rate_limit::RateLimit,
    sampling::{self, CountingSampler},
    subscriber,
};

struct Memory {
    spans: InMemorySpanExporter,
    logs: InMemoryLogExporter,
    metrics: InMemoryMetricExporter,
    meter_provider: SdkMeterProvider,
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| {
    let (spans, logs, metrics) = (
        InMemorySpanExporter::default(),
        InMemoryLogExporter::default(),
        InMemoryMetricExporter::default(),
    );
    let meter_provider = SdkMeterProvider::builder()
        .with_periodic_exporter(CountingMetricExporter::new(
            metrics.clone(),
            "",
            Arc::default(),
        ))
        .build();
    global::set_meter_provider(meter_provider.clone());
    let formats = [Propagator::TraceContext, Propagator::Baggage];
    propagation::install(&formats);
    let sampler = sampling::configured(&TelemetryConfig::default());
    let traces = SdkTracerProvider::builder()
        .with_sampler(CountingSampler(sampler))
        .with_simple_exporter(NormalizingSpanExporter {
            exporter: spans.clone(),
            stats: PipelineStats::new(&SPANS, usize::MAX, Components::default()),
            length_limit: None,
        })
        .build();
    global::set_tracer_provider(traces.clone());
    let records = SdkLoggerProvider::builder()
        .with_log_processor(NormalizingLogProcessor)
        .with_simple_exporter(logs.clone())
        .build();
    let filter = Targets::new().with_default(LevelFilter::INFO);
    #[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
    crate::edge::export(&filter, crate::edge::Readers::default());
    registry()
        .with(subscriber::traces(&traces, &filter))
        .with(subscriber::logs(
            Some(&records),
            &filter,
            RateLimit::new(None, "logs"),
            false,
        ))
        .try_init()
        .expect("no other subscriber is installed in a test");
    panics::observe_and_print();
    Memory {
        spans,
        logs,
        metrics,
        meter_provider,
    }
});

/// Installs the in-memory exporters for this process. Later calls do nothing.
///
/// Call it at the start of each test, before the first instrument is created. Panics if another
/// global subscriber is installed.
pub fn install() {
    LazyLock::force(&MEMORY);
}

/// Runs `work` in a new trace. Returns its output and the spans that ended before `work` did.
pub async fn spans_of<T>(work: impl Future<Output = T>) -> (T, Spans) {
    install();
    let root = info_span!(parent: None, "test");
    let trace = root.context().span().span_context().trace_id();
    let output = work.instrument(root).await;
    (output, Spans::of(trace))
}

/// Returns the log records of the trace `id` up to now.
pub fn logs_of(id: TraceId) -> Vec<LogDataWithResource> {
    let mut records = MEMORY
        .logs
        .get_emitted_logs()
        .expect("the exporter is not shut down");
    records.retain(|log| {
        log.record
            .trace_context()
            .is_some_and(|context| context.trace_id == id)
    });
    records
}

/// Returns the log records with the event name `name` up to now, of all traces.
pub fn events(name: &str) -> Vec<LogDataWithResource> {
    let mut records = MEMORY
        .logs
        .get_emitted_logs()
        .expect("the exporter is not shut down");
    records.retain(|log| log.record.event_name() == Some(name));
    records
}

/// Returns the current sum of the values of all series of the metric `name` that have `attribute`.
/// The value of a histogram is its sum.
pub fn sum(name: &str, attribute: &KeyValue) -> f64 {
    sum_where(name, |mut attributes| {
        attributes.any(|found| found == attribute)
    })
}

/// Returns the current sum of the values of all series of the metric `name`.
pub fn sum_of(name: &str) -> f64 {
    sum_where(name, |_| true)
}

type Attributes<'p> = Box<dyn Iterator<Item = &'p KeyValue> + 'p>;

fn sum_where(name: &str, accepts: impl Fn(Attributes<'_>) -> bool) -> f64 {
    let exports = metrics();
    let last = exports.last().into_iter();
    let scopes = last.flat_map(ResourceMetrics::scope_metrics);
    let metrics = scopes.flat_map(ScopeMetrics::metrics);
    let sums = metrics
        .filter(|metric| metric.name() == name)
        .map(|metric| match metric.data() {
            AggregatedMetrics::F64(data) => sum_of_points(data, &accepts),
            AggregatedMetrics::U64(data) => sum_of_points(data, &accepts),
            AggregatedMetrics::I64(data) => sum_of_points(data, &accepts),
        });
    sums.sum()
}

fn sum_of_points<T: Copy + ToString>(
    data: &MetricData<T>,
    accepts: &impl Fn(Attributes<'_>) -> bool,
) -> f64 {
    let number = |value: T| value.to_string().parse().unwrap_or(f64::NAN);
    match data {
        MetricData::Gauge(gauge) => gauge
            .data_points()
            .filter(|point| accepts(Box::new(point.attributes())))
            .map(|point| number(point.value()))
            .sum(),
        MetricData::Sum(sum) => sum
            .data_points()
            .filter(|point| accepts(Box::new(point.attributes())))
            .map(|point| number(point.value()))
            .sum(),
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .filter(|point| accepts(Box::new(point.attributes())))
            .map(|point| number(point.sum()))
            .sum(),
        MetricData::ExponentialHistogram(_) => 0.0,
    }
}

/// Returns every export of the metrics of this process up to now. The last one has the current
/// values.
pub fn metrics() -> Vec<ResourceMetrics> {
    MEMORY
        .meter_provider
        .force_flush()
        .expect("the in-memory exporter does not fail");
    MEMORY
        .metrics
        .get_finished_metrics()
        .expect("the exporter is not shut down")
}

/// The ended spans of one trace and of all traces that are connected to it by span links.
#[derive(Clone, Debug)]
pub struct Spans {
    trace: TraceId,
    spans: Vec<SpanData>,
}

impl Spans {
    /// Returns the ended spans of a trace and of all traces that are connected to it by span links,
    /// in either direction.
    ///
    /// # Panics
    ///
    /// If the exporter is shut down.
    pub fn of(trace: TraceId) -> Self {
        let all = MEMORY
            .spans
            .get_finished_spans()
            .expect("the exporter is not shut down");
        let mut traces = HashSet::from([trace]);
        loop {
            let known = traces.len();
            for span in &all {
                let linked = || span.links.iter().map(|link| link.span_context.trace_id());
                let own = span.span_context.trace_id();
                if traces.contains(&own) {
                    traces.extend(linked());
                } else if linked().any(|trace| traces.contains(&trace)) {
                    traces.insert(own);
                }
            }
            if traces.len() == known {
                break;
            }
        }
        let spans = all
            .into_iter()
            .filter(|span| traces.contains(&span.span_context.trace_id()))
            .collect();
        Self { trace, spans }
    }

    /// Returns the spans of the same traces that have ended up to now.
    #[must_use]
    pub fn refreshed(&self) -> Self {
        Self::of(self.trace)
    }

    /// Waits until a span with this name has ended, and returns the spans of the same traces. It is
    /// for work that continues in the background.
    ///
    /// # Panics
    ///
    /// If no such span ends within one minute.
    pub async fn wait_for(&self, name: &str) -> Self {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let spans = self.refreshed();
            if !spans.all_named(name).is_empty() {
                return spans;
            }
            assert!(
                Instant::now() < deadline,
                "no span {name:?} among {:?}",
                spans.names()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the id of the trace that the test started.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// Iterates over all spans, in the order in which they ended.
    pub fn iter(&self) -> impl Iterator<Item = &SpanData> {
        self.spans.iter()
    }

    /// Returns the only span with this name.
    ///
    /// # Panics
    ///
    /// If no span or more than one span has this name. The message lists the names of all spans.
    #[track_caller]
    pub fn named(&self, name: &str) -> &SpanData {
        match self.all_named(name)[..] {
            [span] => span,
            ref found => panic!(
                "{} spans named {name:?} among {:?}",
                found.len(),
                self.names()
            ),
        }
    }

    /// Returns all spans with this name.
    pub fn all_named(&self, name: &str) -> Vec<&SpanData> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the names of all spans, in the order in which they ended.
    pub fn names(&self) -> Vec<&str> {
        self.spans.iter().map(|span| &*span.name).collect()
    }
}

/// Returns the value of the attribute `key` of `span`, or `None` if the span does not have it.
pub fn attribute<'s>(span: &'s SpanData, key: &str) -> Option<&'s Value> {
    span.attributes
        .iter()
        .find(|found| found.key.as_str() == key)
        .map(|found| &found.value)
}
