//! The metrics layer: a counter and a histogram for each span whose name starts with `record.`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{ERROR, FieldValue, SpanFields, field::owned, is_error};
use crate::{scope, semconv, subscriber::by_callsite};

/// The prefix of the names of measured spans.
const PREFIX: &str = "record.";
/// The field with the name of the metric.
const METRIC_NAME: &str = "metric_name";
/// The prefix of the fields that become attributes.
const LABEL: &str = "metric_label_";
/// The maximum number of metrics. Further names are not measured, because the name of a metric must
/// be a low-cardinality value.
const MAX_METRICS: usize = 200;

/// Returns the layer that measures each span whose name starts with `record.`: a counter, and a
/// histogram of durations in seconds with the suffix `.duration`.
///
/// The metric has the name in the field `metric_name`, or else that of the span without the prefix.
/// Its attributes are the fields `metric_label_*` without their prefix, `span_name`, and `result`:
/// `error` if the span has a field `error` or an event with one, as `#[instrument(err)]` logs it,
/// else `ok`. The duration runs from the first enter to the end.
///
/// The layer accepts only these spans and events. Neither the filter of the console nor the
/// sampler matters. With the layer of [`context`](super::context) before it, the fields of outer
/// spans count as well. The cardinality limit of the SDK bounds the number of series.
pub fn metrics<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let accepts = |metadata: &Metadata<'_>| is_measured(metadata) || is_error(metadata);
    MetricsLayer::default().with_filter(by_callsite(accepts))
}

/// Whether a span is measured.
fn is_measured(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name().starts_with(PREFIX)
}

#[derive(Default)]
struct MetricsLayer {
    metrics: Mutex<HashMap<String, Metric>>,
}

#[derive(Clone, Debug)]
struct Metric {
    count: Counter<u64>,
    duration: Histogram<f64>,
}

/// A span that is measured when it ends.
#[derive(Debug, Default)]
struct Measured {
    first_entered: Option<Instant>,
    name: Option<String>,
    labels: BTreeMap<&'static str, FieldValue>,
    has_failed: bool,
}

impl Measured {
    fn set(&mut self, field: &'static str, value: FieldValue) {
        match field {
            METRIC_NAME => self.name = Some(value.to_string()),
            ERROR => self.has_failed = true,
            _ => {
                if let Some(label) = field.strip_prefix(LABEL) {
                    self.labels.insert(label, value);
                }
            }
        }
    }

    /// Adds the fields of the spans around, which the context layer kept. Those of the span itself
    /// are already set.
    fn inherit(&mut self, context: &SpanFields) {
        for (field, value) in context.iter() {
            match field.strip_prefix(LABEL) {
                Some(label) => {
                    self.labels.entry(label).or_insert_with(|| value.clone());
                }
                None if field == METRIC_NAME && self.name.is_none() => {
                    self.name = Some(value.to_string());
                }
                None => {}
            }
        }
    }

    /// Returns the attributes, sorted by name.
    fn attributes(self, span_name: &'static str) -> Vec<KeyValue> {
        let mut labels = self.labels;
        let result = if self.has_failed { "error" } else { "ok" };
        labels.insert("result", FieldValue::Text(result.to_owned()));
        labels.insert("span_name", FieldValue::Text(span_name.to_owned()));
        let attributes = labels.into_iter();
        attributes
            .map(|(label, value)| KeyValue::new(label, value))
            .collect()
    }
}

impl MetricsLayer {
    /// Returns the metric with this name, or `None` if there are too many.
    fn metric(&self, name: &str) -> Option<Metric> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = metrics.get(name) {
            return Some(metric.clone());
        }
        (metrics.len() < MAX_METRICS).then(|| {
            let metric = Metric::new(name);
            metrics.insert(name.to_owned(), metric.clone());
            metric
        })
    }
}

impl Metric {
    /// Creates the instruments. The first span of a name ends after telemetry is installed.
    fn new(name: &str) -> Self {
        let meter = scope::meter();
        Self {
            count: meter
                .u64_counter(name.to_owned())
                .with_unit("{operation}")
                .with_description("Number of operations, each a span named record.…")
                .build(),
            duration: meter
                .f64_histogram(format!("{name}.duration"))
                .with_unit("s")
                .with_description("Duration of the operations")
                .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
                .build(),
        }
    }
}

impl<S> Layer<S> for MetricsLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut measured = Measured::default();
        let own = owned(attributes.values().len(), |visitor| {
            attributes.record(visitor);
        });
        for (name, value) in own {
            measured.set(name, value);
        }
        span.extensions_mut().insert(measured);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let recorded = owned(values.len(), |visitor| values.record(visitor));
        with_measured(id, &context, |measured| {
            for (name, value) in recorded {
                measured.set(name, value);
            }
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // Its filter accepts only events with an error. The span of the event may be an inner one,
        // which is not measured.
        let current = context.current_span();
        let own = event
            .parent()
            .or(current.id().filter(|_| event.is_contextual()));
        if let Some(id) = own {
            with_measured(id, &context, |measured| measured.has_failed = true);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        with_measured(id, &context, |measured| {
            measured.first_entered.get_or_insert_with(Instant::now);
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let Some(mut measured) = span.extensions_mut().remove::<Measured>() else {
            return;
        };
        if let Some(fields) = SpanFields::of(&span) {
            measured.inherit(&fields);
        }
        let span_name = span.name().strip_prefix(PREFIX).unwrap_or(span.name());
        let name = measured.name.take().unwrap_or_else(|| span_name.to_owned());
        let Some(metric) = self.metric(&name) else {
            return;
        };
        let elapsed = measured.first_entered.map(|entered| entered.elapsed());
        let attributes = measured.attributes(span_name);
        metric.count.add(1, &attributes);
        let seconds = elapsed.unwrap_or_default().as_secs_f64();
        metric.duration.record(seconds, &attributes);
    }
}

fn with_measured<S>(id: &Id, context: &Context<'_, S>, work: impl FnOnce(&mut Measured))
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if let Some(span) = context.span(id)
        && let Some(measured) = span.extensions_mut().get_mut::<Measured>()
    {
        work(measured);
    }
}
