//! What a collector, or all gateways together, stored.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use testbed::{
    number::to_u64,
    sink::{Point, Sink, Span},
};

use super::collectors::own_metric;

/// The attribute that names the gateway.
pub(super) const GATEWAY: &str = "collector.instance.id";

/// The metrics that a collector derives, by the beginning of their names.
pub(super) const DERIVED: [(&str, &[&str]); 3] = [
    (SPAN_METRICS, &["traces.span.metrics."]),
    (GRAPH, &["traces_service_graph_"]),
    (
        COUNTS,
        &[
            "bookapp.span",
            "bookapp.log.errors",
            "bookapp.exceptions",
            "exceptions",
        ],
    ),
];
pub(super) const SPAN_METRICS: &str = "span metrics";
pub(super) const GRAPH: &str = "service graph";
pub(super) const COUNTS: &str = "counts of spans, errors and exceptions";
/// All other metrics.
pub(super) const OF_SERVICES: &str = "metrics of the services";

/// What a collector, or all gateways together, stored.
#[derive(PartialEq)]
pub(super) struct Stored {
    /// The ids of trace and span.
    pub(super) spans: HashSet<(String, String)>,
    /// The time, trace and body of each log record.
    pub(super) logs: HashSet<(u64, String, String)>,
    series: Series,
}

/// The totals of each series over all gateways, by its family, name, resource and attributes.
pub(super) type Series = BTreeMap<(&'static str, String), Totals>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// A value, or the count of a histogram.
    pub(super) value: f64,
    /// The sum of a histogram.
    sum: f64,
    buckets: Vec<u64>,
}

impl Stored {
    pub(super) fn of(sink: &Sink) -> Self {
        let mut series = Series::new();
        for mut point in sink.points() {
            point.attributes.remove(GATEWAY);
            let Point {
                name,
                resource,
                attributes,
                ..
            } = &point;
            let key = (family(name), format!("{name} {resource:?} {attributes:?}"));
            series.entry(key).or_default().add(&point);
        }
        // The last digits depend on the order of addition.
        for totals in series.values_mut() {
            totals.sum = (totals.sum * 1e6).round() / 1e6;
        }
        let spans = sink.spans().into_iter();
        let logs = sink.logs().into_iter();
        Self {
            spans: spans.map(|span| (span.trace_id, span.span_id)).collect(),
            logs: logs.map(|log| (log.time, log.trace_id, log.body)).collect(),
            series,
        }
    }

    /// Returns the series of one family.
    pub(super) fn of_family(&self, family: &str) -> Series {
        let mut series = self.series.clone();
        series.retain(|(known, _), _| *known == family);
        series
    }

    /// Whether the collector at `address` has counted these spans, has decided about their traces and completed the edges
    /// of its service graph, and stored what it kept.
    pub(super) async fn is_complete(&self, address: &str, received: &[Span]) -> Result<bool> {
        let traces: HashSet<_> = received.iter().map(|span| &span.trace_id).collect();
        let decided = "otelcol_processor_tail_sampling_global_count_traces_sampled";
        let edges = "otelcol_connector_servicegraph_total_edges";
        let kept = "sampled=\"true\"";
        Ok(
            self.total("bookapp.spans.received ") == received.len() as u64
                && own_metric(address, decided, "").await? == traces.len() as u64
                && own_metric(address, decided, kept).await? == self.traces().len() as u64
                && own_metric(address, edges, "").await?
                    == self.total("traces_service_graph_request_total "),
        )
    }

    /// Returns the sum of all series whose keys begin with `prefix`.
    fn total(&self, prefix: &str) -> u64 {
        let series = self.series.iter();
        let series = series.filter(|((_, key), _)| key.starts_with(prefix));
        to_u64(series.map(|(_, totals)| totals.value).sum())
    }

    pub(super) fn traces(&self) -> HashSet<String> {
        self.spans.iter().map(|(trace, _)| trace.clone()).collect()
    }
}

impl Totals {
    /// Returns the number of time series in Prometheus: one, or the buckets, the count and the sum of a histogram.
    pub(super) fn series(&self) -> u64 {
        match self.buckets.len() {
            0 => 1,
            buckets => buckets as u64 + 2,
        }
    }

    fn add(&mut self, point: &Point) {
        self.value += point.value;
        self.sum += point.sum;
        self.buckets.resize(point.buckets.len(), 0);
        let pairs = self.buckets.iter_mut().zip(&point.buckets);
        pairs.for_each(|(total, count)| *total += count);
    }
}

/// Returns the family of a metric.
fn family(name: &str) -> &'static str {
    let is_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let family = DERIVED.iter().find(|(_, prefixes)| is_of(prefixes));
    family.map_or(OF_SERVICES, |(family, _)| family)
}
