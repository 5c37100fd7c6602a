//! Two gateways behind an agent give the figures of one collector.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    System, eventually,
    process::{Signal, Spec},
    sink::{Point, Sink, Span},
    system::{Binaries, Dependencies, http},
};

use super::{
    Programs,
    collectors::{Hosts, own_metric, start},
    to_f64, to_u64,
};
use crate::{links::Pairs, stack::native, table::Table};

const ONE: &str = "127.0.0.2";
const AGENT: &str = "127.0.0.3";
const GATEWAYS: [&str; 2] = ["127.0.0.4", "127.0.0.5"];
/// The attribute that names the gateway.
const GATEWAY: &str = "collector.instance.id";
/// The share of ordinary traces that is kept.
const BASELINE_PERCENT: &str = "10";
/// The number of clients that add books at the same time.
const CLIENTS: usize = 8;
/// The maximum time until all telemetry is stored.
const TIMEOUT: Duration = Duration::from_mins(3);

/// The metrics that a collector derives, by the beginning of their names.
const DERIVED: [(&str, &[&str]); 3] = [
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
const SPAN_METRICS: &str = "span metrics";
const GRAPH: &str = "service graph";
const COUNTS: &str = "counts of spans, errors and exceptions";
const OF_SERVICES: &str = "metrics of the services";

/// The telemetry of requests, before sampling: of a read, a list, and an addition with its message.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The number of spans of each.
    pub spans: [f64; 3],
    /// The number of log records of each.
    pub logs: [f64; 3],
    /// The number of traces of each.
    pub traces: [f64; 3],
    /// The size of a span, in bytes.
    pub span_bytes: f64,
    /// The size of a log record, in bytes.
    pub log_bytes: f64,
    /// The number of time series in Prometheus of one instance of a service.
    pub series: f64,
    /// The number of those that a gateway derives from the spans and log records of one instance.
    pub derived_series: f64,
    /// The number of those of the service graph.
    pub graph_series: f64,
}

// proves: N29 N30
pub(super) async fn check(programs: &Programs, books: usize, table: &mut Table) -> Result<Figures> {
    let data = TempDir::with_prefix("bookapp-tiers-")?;
    let of_one = Sink::start().await?;
    let of_tiers = Sink::start().await?;
    let received = Sink::start().await?;
    let sampled = |spec: Spec| spec.env("TAIL_SAMPLING_BASELINE_PERCENT", BASELINE_PERCENT);
    let gateway = |address| {
        let spec = programs.gateway(address, data.path(), &of_tiers, &of_tiers);
        start(sampled(spec), address)
    };
    let _gateways = try_join_all(GATEWAYS.map(gateway)).await?;
    let hosts = Hosts::new(&data, &GATEWAYS)?;
    let _agent = start(programs.agent(AGENT, data.path(), &hosts), AGENT).await?;
    let one = sampled(programs.one(ONE, data.path(), &of_one));
    let one = native::tap(one, "agent", &format!("http://{AGENT}:4318"));
    let one = native::tap(one, "received", &received.endpoint());
    let _one = start(one, ONE).await?;

    let binaries = Binaries::build().await?;
    let endpoint = format!("http://{ONE}:4318");
    let system = System::start_with(&binaries, Dependencies::start(None).await?, |spec| {
        spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
    });
    let system = system.await?;
    send(&system.bookapp.url, books).await?;
    let processed = || async {
        let spans = received.spans();
        let processed = spans
            .iter()
            .filter(|span| span.name.starts_with("process "));
        (processed.count() >= books).then_some(())
    };
    eventually(TIMEOUT, "all messages are processed", processed).await?;
    for service in [&system.bookapp, &system.backend] {
        service.process.signal(Signal::SIGTERM);
        service.process.wait(TIMEOUT).await?;
    }

    let complete = || async {
        let (one, tiers) = (Stored::of(&of_one), Stored::of(&of_tiers));
        let is_complete = one.is_complete(&received.spans()).await.ok()?;
        (is_complete && one == tiers).then_some((one, tiers))
    };
    let stored = eventually(TIMEOUT, "both have stored everything", complete).await;
    // What differs after that time, a row of the table says.
    let (one, tiers) = stored.unwrap_or_else(|_| (Stored::of(&of_one), Stored::of(&of_tiers)));
    table.check("tiers", "spans at each gateway", shares(&of_tiers));
    for family in DERIVED
        .map(|(family, _)| family)
        .into_iter()
        .chain([OF_SERVICES])
    {
        table.check(
            "tiers",
            family,
            equal_series(&one.of_family(family), &tiers.of_family(family)),
        );
    }
    let records = |logs: &HashSet<_>| format!("{} records", logs.len());
    table.check("tiers", "logs", equal(&one.logs, &tiers.logs, records));
    let spans = |spans: &HashSet<_>| format!("{} spans", spans.len());
    table.check(
        "tiers",
        "kept spans",
        equal(&one.spans, &tiers.spans, spans),
    );
    let pairs = Pairs::of(&received.spans(), &tiers.traces());
    table.check("tiers", "traces that link to each other", together(&pairs));
    figures(&received, &one, books)
}

/// Adds this number of books. For each of them, also reads a book and a list.
async fn send(url: &str, books: usize) -> Result<()> {
    let client = http()?;
    let send = async |first: usize| {
        for book in (first..books).step_by(CLIENTS) {
            let book = json!({"title": format!("Kindred {book}"), "author": "Octavia E. Butler"});
            for request in [
                client.post(format!("{url}/books/add")).json(&book),
                client.get(format!("{url}/books/1")),
                client.get(format!("{url}/books?limit=5")),
            ] {
                request.send().await?.error_for_status()?;
            }
        }
        anyhow::Ok(())
    };
    try_join_all((0..CLIENTS).map(send)).await.map(drop)
}

/// What a collector, or all gateways together, stored.
#[derive(PartialEq)]
struct Stored {
    /// The ids of trace and span.
    spans: HashSet<(String, String)>,
    /// The time, trace and body of each log record.
    logs: HashSet<(u64, String, String)>,
    series: Series,
}

/// The totals of each series over all gateways, by its family, name, resource and attributes.
type Series = BTreeMap<(&'static str, String), Totals>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    /// A value, or the count of a histogram.
    value: f64,
    /// The sum of a histogram.
    sum: f64,
    buckets: Vec<u64>,
}

impl Stored {
    fn of(sink: &Sink) -> Self {
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
    fn of_family(&self, family: &str) -> Series {
        let mut series = self.series.clone();
        series.retain(|(known, _), _| *known == family);
        series
    }

    /// Whether the one collector has counted these spans, has decided about their traces and completed the edges of its
    /// service graph, and stored what it kept.
    async fn is_complete(&self, received: &[Span]) -> Result<bool> {
        let traces: HashSet<_> = received.iter().map(|span| &span.trace_id).collect();
        let decided = "otelcol_processor_tail_sampling_global_count_traces_sampled";
        let edges = "otelcol_connector_servicegraph_total_edges";
        let kept = "sampled=\"true\"";
        Ok(
            self.total("bookapp.spans.received ") == received.len() as u64
                && own_metric(ONE, decided, "").await? == traces.len() as u64
                && own_metric(ONE, decided, kept).await? == self.traces().len() as u64
                && own_metric(ONE, edges, "").await?
                    == self.total("traces_service_graph_request_total "),
        )
    }

    /// Returns the sum of all series whose keys begin with `prefix`.
    fn total(&self, prefix: &str) -> u64 {
        let series = self.series.iter();
        let series = series.filter(|((_, key), _)| key.starts_with(prefix));
        to_u64(series.map(|(_, totals)| totals.value).sum())
    }

    fn traces(&self) -> HashSet<String> {
        self.spans.iter().map(|(trace, _)| trace.clone()).collect()
    }
}

impl Totals {
    /// Returns the number of time series in Prometheus: one, or the buckets, the count and the sum of a histogram.
    fn series(&self) -> u64 {
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

/// Returns both, described. Fails if they are not equal.
fn equal<T: PartialEq>(one: &T, tiers: &T, describe: impl Fn(&T) -> String) -> Result<String> {
    let text = format!(
        "one collector: {}; gateways: {}",
        describe(one),
        describe(tiers)
    );
    ensure!(one == tiers, "{text}");
    Ok(text)
}

/// As [`equal`], and names a series that differs.
fn equal_series(one: &Series, tiers: &Series) -> Result<String> {
    let differs = |key: &&(_, _)| one.get(key) != tiers.get(key);
    let key = one.keys().chain(tiers.keys()).find(differs);
    let describe = |series: &Series| {
        let total: f64 = series.values().map(|totals| totals.value).sum();
        let of_key = key.map(|key| format!(": {} {:?}", key.1, series.get(key)));
        format!(
            "{} series, their values add up to {total:.0}{}",
            series.len(),
            of_key.unwrap_or_default()
        )
    };
    equal(one, tiers, describe)
}

/// Returns how many spans each gateway received. Fails if one of them received less than a fifth.
fn shares(tiers: &Sink) -> Result<String> {
    let mut spans: BTreeMap<String, f64> = BTreeMap::new();
    for point in tiers.points() {
        if point.name == "bookapp.spans.received" {
            let gateway = point.attributes.get(GATEWAY).and_then(Value::as_str);
            *spans
                .entry(gateway.unwrap_or_default().to_owned())
                .or_default() += point.value;
        }
    }
    let all: f64 = spans.values().sum();
    let share = |(gateway, spans): (&String, &f64)| format!("{gateway}: {spans}");
    let text = spans.iter().map(share).collect::<Vec<_>>().join(", ");
    let is_fair = spans.len() == GATEWAYS.len() && spans.values().all(|it| *it > all / 5.0);
    ensure!(is_fair, "{text}");
    Ok(text)
}

/// Measures the telemetry of requests. That of an addition includes that of its message.
fn figures(received: &Sink, one: &Stored, books: usize) -> Result<Figures> {
    let (spans, logs, sizes) = (received.spans(), received.logs(), received.sizes());
    let roots = spans.iter().filter(|span| span.parent_id.is_none());
    let roots: HashMap<_, _> = roots.map(|span| (&*span.trace_id, &*span.name)).collect();
    let each = |traces: &mut dyn Iterator<Item = &str>| {
        let (mut read, mut list, mut addition) = (0, 0, 0);
        for trace in traces {
            match roots.get(trace) {
                Some(&"GET /books/{id}") => read += 1,
                Some(&"GET /books") => list += 1,
                Some(_) => addition += 1,
                None => {}
            }
        }
        let counts = [read, list, addition];
        counts.map(|count| to_f64(count) / to_f64(books as u64))
    };
    let ratio = |all: usize, count: usize| to_f64(all as u64) / to_f64(count.max(1) as u64);
    let series = |family: &str| to_f64(one.of_family(family).values().map(Totals::series).sum());
    let of_spans = series(SPAN_METRICS) + series(COUNTS);
    let figures = Figures {
        spans: each(&mut spans.iter().map(|span| &*span.trace_id)),
        logs: each(&mut logs.iter().map(|log| &*log.trace_id)),
        traces: each(&mut roots.keys().copied()),
        span_bytes: ratio(sizes.spans, spans.len()),
        log_bytes: ratio(sizes.logs, logs.len()),
        // Of two instances: one bookapp and one backend.
        series: series(OF_SERVICES) / 2.0,
        derived_series: of_spans / 2.0,
        graph_series: series(GRAPH),
    };
    ensure!(figures.spans[0] >= 1.0, "no span of a read: {figures:?}");
    Ok(figures)
}

/// Fails if a link of a kept trace leads to a dropped one.
fn together(pairs: &Pairs) -> Result<String> {
    let Pairs {
        kept,
        dropped,
        excused,
        dangling,
    } = pairs;
    let text = format!(
        "of {} pairs {kept} kept, {dropped} dropped, {excused} kept at one end because of what happened there, {dangling} torn",
        pairs.all()
    );
    ensure!(*dangling == 0 && *kept > 0 && *dropped > *kept, "{text}");
    Ok(text)
}
