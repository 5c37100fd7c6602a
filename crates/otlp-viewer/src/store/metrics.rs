//! The newest points of each series of the metrics.

use std::collections::{HashMap, VecDeque};

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Exemplar, Metric, NumberDataPoint,
        exemplar::Value as ExemplarValue, metric::Data, number_data_point::Value as Number,
    },
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    ids::{SpanId, TraceId},
    milliseconds,
    values::{Origin, attributes},
};

/// The maximum number of points of a series.
const MAX_POINTS: usize = 240;
/// The maximum size of the text that identifies a series, in bytes, and of the texts that describe it.
const MAX_TEXT: usize = 16 << 10;
/// The maximum number of buckets of a histogram.
const MAX_BUCKETS: usize = 200;
/// The maximum number of exemplars of a series.
const MAX_EXEMPLARS: usize = 5;

/// All series, by what identifies them.
#[derive(Debug)]
pub(super) struct Metrics {
    series: HashMap<String, Series>,
    capacity: usize,
    /// The number of points of further and of too large series, which are not kept.
    rejected: u64,
}

/// A series: the points of a metric with the same attributes.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    name: String,
    description: String,
    unit: String,
    instrument: Instrument,
    /// Whether each point counts since the previous one, not since the start.
    is_delta: bool,
    service: String,
    scope: String,
    attributes: Map<String, Value>,
    /// The upper bounds of the buckets of a histogram, without the last one.
    bounds: Vec<f64>,
    points: VecDeque<Point>,
    exemplars: VecDeque<SeenExemplar>,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Instrument {
    Counter,
    UpDownCounter,
    Gauge,
    Histogram,
}

/// A point of a series.
#[derive(Clone, Debug, Serialize)]
struct Point {
    time_ms: f64,
    /// The value of a sum or gauge, or the sum of a histogram.
    value: f64,
    /// The count of a histogram.
    count: u64,
    /// The counts of the buckets of a histogram.
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    buckets: Box<[u64]>,
}

/// An exemplar: one measurement, with the span in which it was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct SeenExemplar {
    time_ms: f64,
    value: f64,
    trace_id: TraceId,
    span_id: Option<SpanId>,
}

impl Metrics {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            series: HashMap::new(),
            capacity,
            rejected: 0,
        }
    }

    /// Adds the points of a metric. Returns how many were rejected, because there are too many series or
    /// because theirs is too large.
    pub(super) fn add(&mut self, origin: &Origin, metric: &Metric) -> u64 {
        let Some(received) = metric.data.as_ref().map(Received::of) else {
            return 0;
        };
        let before = self.rejected;
        for point in received.points {
            let labels = attributes(point.attributes);
            let key = format!("{}\0{}\0{labels:?}", metric.name, origin.resource);
            let is_one_too_many =
                !self.series.contains_key(&key) && self.series.len() >= self.capacity;
            let text = key.len() + metric.description.len() + metric.unit.len();
            let is_too_large = text + origin.scope.len() > MAX_TEXT
                || point.bounds.len().max(point.point.buckets.len()) > MAX_BUCKETS;
            if is_one_too_many || is_too_large {
                self.rejected += 1;
                continue;
            }
            let series = self.series.entry(key).or_insert_with(|| Series {
                name: metric.name.clone(),
                description: metric.description.clone(),
                unit: metric.unit.clone(),
                instrument: received.instrument,
                is_delta: received.is_delta,
                service: origin.service.clone(),
                scope: origin.scope.clone(),
                attributes: labels,
                bounds: Vec::new(),
                points: VecDeque::new(),
                exemplars: VecDeque::new(),
            });
            series.push(point);
        }
        self.rejected - before
    }

    /// Returns the series of a service, or of all, whose name contains `text`, ordered by name. At most
    /// `limit`.
    pub(super) fn list(&self, service: Option<&str>, text: &str, limit: usize) -> Vec<&Series> {
        let is_accepted = |series: &&Series| {
            series.name.contains(text) && service.is_none_or(|service| series.service == service)
        };
        let mut list: Vec<_> = self.series.values().filter(is_accepted).collect();
        list.sort_by(|one, other| (&one.name, &one.service).cmp(&(&other.name, &other.service)));
        list.truncate(limit);
        list
    }

    /// Returns the exemplars that were made in a trace, each with the name of its metric.
    pub(super) fn exemplars_of(&self, trace: TraceId) -> Vec<Value> {
        let of_series = |series: &Series| {
            let exemplars = series.exemplars.iter();
            let exemplars = exemplars.filter(|exemplar| exemplar.trace_id == trace);
            let named = exemplars.map(|exemplar| {
                serde_json::json!({"metric": series.name, "unit": series.unit, "value": exemplar.value,
                    "span_id": exemplar.span_id})
            });
            named.collect::<Vec<_>>()
        };
        self.series.values().flat_map(of_series).collect()
    }

    /// Returns the number of series, and how many points were rejected.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.series.len(), self.rejected)
    }
}

impl Series {
    fn push(&mut self, received: ReceivedPoint<'_>) {
        self.bounds.clear();
        self.bounds.extend_from_slice(received.bounds);
        push_newest(&mut self.points, received.point, MAX_POINTS);
        for exemplar in received.exemplars.iter().filter_map(SeenExemplar::of) {
            if !self.exemplars.contains(&exemplar) {
                push_newest(&mut self.exemplars, exemplar, MAX_EXEMPLARS);
            }
        }
    }
}

impl Point {
    /// Returns a point without buckets. `time` is in nanoseconds since the Unix epoch.
    fn new(time: u64, value: f64, count: u64) -> Self {
        Self {
            time_ms: milliseconds(time),
            value,
            count,
            buckets: Box::default(),
        }
    }
}

/// The points of a metric as they were received.
struct Received<'m> {
    instrument: Instrument,
    is_delta: bool,
    points: Vec<ReceivedPoint<'m>>,
}

/// A point as it was received.
struct ReceivedPoint<'m> {
    attributes: &'m [KeyValue],
    point: Point,
    bounds: &'m [f64],
    exemplars: &'m [Exemplar],
}

impl<'m> Received<'m> {
    fn of(data: &'m Data) -> Self {
        let is_delta = |temporality| temporality == i32::from(AggregationTemporality::Delta);
        let (instrument, is_delta, points) = match data {
            Data::Gauge(gauge) => {
                let points = gauge.data_points.iter().map(ReceivedPoint::of_number);
                (Instrument::Gauge, false, points.collect())
            }
            Data::Sum(sum) => {
                let instrument = if sum.is_monotonic {
                    Instrument::Counter
                } else {
                    Instrument::UpDownCounter
                };
                let points = sum.data_points.iter().map(ReceivedPoint::of_number);
                let is_delta = is_delta(sum.aggregation_temporality);
                (instrument, is_delta, points.collect())
            }
            Data::Histogram(histogram) => {
                let points = histogram.data_points.iter().map(|point| ReceivedPoint {
                    attributes: &point.attributes,
                    point: Point {
                        buckets: point.bucket_counts.as_slice().into(),
                        ..Point::new(
                            point.time_unix_nano,
                            point.sum.unwrap_or_default(),
                            point.count,
                        )
                    },
                    bounds: &point.explicit_bounds,
                    exemplars: &point.exemplars,
                });
                let is_delta = is_delta(histogram.aggregation_temporality);
                (Instrument::Histogram, is_delta, points.collect())
            }
            Data::ExponentialHistogram(histogram) => {
                let points = histogram.data_points.iter().map(|point| ReceivedPoint {
                    attributes: &point.attributes,
                    point: Point::new(
                        point.time_unix_nano,
                        point.sum.unwrap_or_default(),
                        point.count,
                    ),
                    bounds: &[],
                    exemplars: &point.exemplars,
                });
                let is_delta = is_delta(histogram.aggregation_temporality);
                (Instrument::Histogram, is_delta, points.collect())
            }
            Data::Summary(summary) => {
                let points = summary.data_points.iter().map(|point| ReceivedPoint {
                    attributes: &point.attributes,
                    point: Point::new(point.time_unix_nano, point.sum, point.count),
                    bounds: &[],
                    exemplars: &[],
                });
                (Instrument::Histogram, false, points.collect())
            }
        };
        Self {
            instrument,
            is_delta,
            points,
        }
    }
}

impl<'m> ReceivedPoint<'m> {
    fn of_number(point: &'m NumberDataPoint) -> Self {
        let value = match point.value {
            Some(Number::AsDouble(value)) => value,
            Some(Number::AsInt(value)) => to_f64(value),
            None => 0.0,
        };
        Self {
            attributes: &point.attributes,
            point: Point::new(point.time_unix_nano, value, 0),
            bounds: &[],
            exemplars: &point.exemplars,
        }
    }
}

impl SeenExemplar {
    fn of(exemplar: &Exemplar) -> Option<Self> {
        Some(Self {
            time_ms: milliseconds(exemplar.time_unix_nano),
            value: match exemplar.value? {
                ExemplarValue::AsDouble(value) => value,
                ExemplarValue::AsInt(value) => to_f64(value),
            },
            trace_id: TraceId::from_bytes(&exemplar.trace_id)?,
            span_id: SpanId::from_bytes(&exemplar.span_id),
        })
    }
}

fn push_newest<T>(items: &mut VecDeque<T>, item: T, limit: usize) {
    if items.len() == limit {
        items.pop_front();
    }
    items.push_back(item);
}

#[expect(clippy::cast_precision_loss, reason = "a chart shows a few digits")]
fn to_f64(value: i64) -> f64 {
    value as f64
}
