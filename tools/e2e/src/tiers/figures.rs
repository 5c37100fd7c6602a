//! How much telemetry requests make.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use testbed::{number::to_f64, sink::Sink};

use super::stored::{COUNTS, GRAPH, OF_SERVICES, SPAN_METRICS, Stored, Totals};

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

/// Returns the figures of this number of books, reads and lists, which the sink received and one collector stored.
pub(super) fn figures(received: &Sink, one: &Stored, books: usize) -> Result<Figures> {
    let (spans, logs, sizes) = (received.spans(), received.logs(), received.sizes());
    let roots = spans.iter().filter(|span| span.parent_id.is_none());
    let roots: HashMap<_, _> = roots.map(|span| (&*span.trace_id, &*span.name)).collect();
    let each = |traces: &mut dyn Iterator<Item = &str>| {
        let (mut read, mut list, mut addition) = (0_u64, 0_u64, 0_u64);
        for trace in traces {
            match roots.get(trace) {
                Some(&"GET /books/{id}") => read += 1,
                Some(&"GET /books") => list += 1,
                Some(_) => addition += 1,
                None => {}
            }
        }
        let counts = [read, list, addition];
        counts.map(|count| to_f64(count) / to_f64(books))
    };
    let ratio = |all: usize, count: usize| to_f64(all) / to_f64(count.max(1));
    let series = |family: &str| {
        to_f64(
            one.of_family(family)
                .values()
                .map(Totals::series)
                .sum::<u64>(),
        )
    };
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
