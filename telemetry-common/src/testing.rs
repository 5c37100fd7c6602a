//! In-memory exporters, so that a test can judge the telemetry of the code it calls.
//!
//! ```text
//! let (answer, spans) = testing::spans_of(app.add_book("Dune")).await;
//! let insert = spans.named("INSERT books");
//! assert_eq!(insert.parent_span_id, spans.named("books.add").span_context.span_id());
//! ```
//!
//! Subscriber and providers are the process's own, so tests that run side by side share them: each
//! sees only the traces it started, and what links to them.

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
    Propagator,
    normalize::{CountingMetricExporter, NormalizingLogProcessor, NormalizingSpanExporter},
    panics,
    pipeline_stats::{PipelineStats, SPANS},
    propagation, subscriber,
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
    global::set_text_map_propagator(propagation::propagator(&formats));
    let traces = SdkTracerProvider::builder()
        .with_simple_exporter(NormalizingSpanExporter {
            exporter: spans.clone(),
            stats: PipelineStats::new(&SPANS, usize::MAX, ""),
            length_limit: None,
        })
        .build();
    let records = SdkLoggerProvider::builder()
        .with_log_processor(NormalizingLogProcessor)
        .with_simple_exporter(logs.clone())
        .build();
    let everything = Targets::new().with_default(LevelFilter::INFO);
    registry()
        .with(subscriber::traces(&traces, &everything))
        .with(subscriber::logs(&records, &everything))
        .try_init()
        .expect("nothing else in a test installs a subscriber");
    panics::observe_and_print();
    Memory {
        spans,
        logs,
        metrics,
        meter_provider,
    }
});

/// Sends this process's telemetry to memory; later calls do nothing.
///
/// Call it before the first instrument is made: at the start of each test.
pub fn install() {
    LazyLock::force(&MEMORY);
}

/// Runs `work` in a trace of its own; returns its output and the spans that have ended by then.
pub async fn spans_of<T>(work: impl Future<Output = T>) -> (T, Spans) {
    install();
    let root = info_span!(parent: None, "test");
    let trace = root.context().span().span_context().trace_id();
    let output = work.instrument(root).await;
    (output, Spans::of(trace))
}

/// The log records written so far in the trace `id`.
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

/// Every log record of this event so far, of whatever trace.
pub fn events(name: &str) -> Vec<LogDataWithResource> {
    let mut records = MEMORY
        .logs
        .get_emitted_logs()
        .expect("the exporter is not shut down");
    records.retain(|log| log.record.event_name() == Some(name));
    records
}

/// What a metric's series with this attribute add up to now; of a histogram, its sum.
pub fn sum(name: &str, attribute: &KeyValue) -> f64 {
    sum_where(name, |mut attributes| {
        attributes.any(|found| found == attribute)
    })
}

/// What all series of a metric add up to now.
pub fn sum_of(name: &str) -> f64 {
    sum_where(name, |_| true)
}

type Attributes<'p> = Box<dyn Iterator<Item = &'p KeyValue> + 'p>;

fn sum_where(name: &str, accepts: impl Fn(Attributes<'_>) -> bool) -> f64 {
    let exports = metrics();
    let newest = exports.last().into_iter();
    let scopes = newest.flat_map(ResourceMetrics::scope_metrics);
    let metrics = scopes.flat_map(ScopeMetrics::metrics);
    let sums = metrics
        .filter(|metric| metric.name() == name)
        .map(|metric| match metric.data() {
            AggregatedMetrics::F64(data) => added_up(data, &accepts),
            AggregatedMetrics::U64(data) => added_up(data, &accepts),
            AggregatedMetrics::I64(data) => added_up(data, &accepts),
        });
    sums.sum()
}

fn added_up<T: Copy + ToString>(
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

/// All metrics of the process up to now.
pub fn metrics() -> Vec<ResourceMetrics> {
    MEMORY
        .meter_provider
        .force_flush()
        .expect("memory takes every metric");
    MEMORY
        .metrics
        .get_finished_metrics()
        .expect("the exporter is not shut down")
}

/// The ended spans of one trace and of those that link to it, or that it links to.
#[derive(Clone, Debug)]
pub struct Spans {
    trace: TraceId,
    spans: Vec<SpanData>,
}

impl Spans {
    /// The spans of this trace and of those linked to it.
    ///
    /// # Panics
    ///
    /// When the exporter is shut down.
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

    /// The same traces as they are now.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::of(self.trace)
    }

    /// The same traces once a span of this name has ended, for work that goes on by itself.
    ///
    /// # Panics
    ///
    /// When that takes more than a minute.
    pub async fn once_ended(&self, name: &str) -> Self {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let spans = self.again();
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

    /// The id of the trace that the test started.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// All spans, in the order they ended.
    pub fn iter(&self) -> impl Iterator<Item = &SpanData> {
        self.spans.iter()
    }

    /// The one span of this name.
    ///
    /// # Panics
    ///
    /// When there is none or more than one; it lists those there are.
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

    /// Every span of this name.
    pub fn all_named(&self, name: &str) -> Vec<&SpanData> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The names of all spans in the order they ended.
    pub fn names(&self) -> Vec<&str> {
        self.spans.iter().map(|span| &*span.name).collect()
    }
}

/// The value of `span`'s attribute `key`.
pub fn attribute<'s>(span: &'s SpanData, key: &str) -> Option<&'s Value> {
    span.attributes
        .iter()
        .find(|found| found.key.as_str() == key)
        .map(|found| &found.value)
}
