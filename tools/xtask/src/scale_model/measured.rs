//! The measured figures of the model, and where they are documented.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::tiers::{Figures, Gateway};

use super::PAGE;

/// A measured figure, and the cell of a document that shows it.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) value: f64,
    page: &'static str,
    /// The beginning of the line.
    line: &'static str,
    /// The number of the cell after this beginning.
    cell: usize,
}

impl Measured {
    const fn of_bench(value: f64, line: &'static str, cell: usize) -> Self {
        Self {
            value,
            page: "docs/performance.md",
            line,
            cell,
        }
    }

    const fn of_tiers(value: f64, line: &'static str, cell: usize) -> Self {
        Self {
            value,
            page: PAGE,
            line,
            cell,
        }
    }

    /// Returns the number that the document shows.
    fn shown(&self) -> Result<f64> {
        let text = fs::read_to_string(self.page)?;
        let rest = text.lines().find_map(|line| line.strip_prefix(self.line));
        let cell = rest.and_then(|rest| rest.split('|').nth(self.cell));
        let number = cell.and_then(|cell| cell.split_whitespace().next());
        let number = number.with_context(|| format!("{}: no line {}", self.page, self.line))?;
        Ok(number.replace(',', "").parse()?)
    }
}

const READ: &str = "| `GET /books/1` | 100 % |";
const LIST: &str = "| `GET /books?limit=100` | 100 % |";
const ADD: &str = "| `POST /books/add` | 100 % |";
const MESSAGES: &str = "| now | 100 % | 512 |";

/// The CPU time of a read, a list and an addition, in microseconds: of a list in both services, of an addition with its
/// relay.
pub(super) const CPU: [Measured; 3] = [
    Measured::of_bench(80.0, READ, 0),
    Measured::of_bench(766.0, LIST, 0),
    Measured::of_bench(294.0, ADD, 0),
];
/// The messages that one relay sends per second.
pub(super) const RELAY: Measured = Measured::of_bench(29_368.0, MESSAGES, 0);
/// The messages that one worker processes per second.
pub(super) const WORKER: Measured = Measured::of_bench(45_090.0, MESSAGES, 2);
/// The CPU time of a message in the worker, in microseconds.
pub(super) const MESSAGE_CPU: Measured = Measured::of_bench(15.0, MESSAGES, 3);
/// The size of one export of metrics by an instance, in bytes.
pub(super) const METRICS: Measured = Measured::of_bench(16_923.0, "One export of metrics:", 0);

/// The spans of a read, a list, and an addition with its message.
pub(super) const SPANS: [Measured; 3] = [
    Measured::of_tiers(2.0, SPANS_LINE, 0),
    Measured::of_tiers(5.0, SPANS_LINE, 1),
    Measured::of_tiers(13.1, SPANS_LINE, 2),
];
const SPANS_LINE: &str = "| spans |";
/// Their log records.
pub(super) const RECORDS: [Measured; 3] = [
    Measured::of_tiers(1.0, RECORDS_LINE, 0),
    Measured::of_tiers(3.0, RECORDS_LINE, 1),
    Measured::of_tiers(3.0, RECORDS_LINE, 2),
];
const RECORDS_LINE: &str = "| log records |";
/// Their traces.
pub(super) const TRACES: [Measured; 3] = [
    Measured::of_tiers(1.0, TRACES_LINE, 0),
    Measured::of_tiers(1.0, TRACES_LINE, 1),
    Measured::of_tiers(3.5, TRACES_LINE, 2),
];
const TRACES_LINE: &str = "| traces |";
pub(super) const SPAN_BYTES: Measured = Measured::of_tiers(444.0, "| bytes of a span |", 0);
pub(super) const RECORD_BYTES: Measured = Measured::of_tiers(333.0, "| bytes of a log record |", 0);
/// The time series of one instance of a service.
pub(super) const SERIES: Measured = Measured::of_tiers(331.0, "| series of one instance |", 0);
/// Those that a gateway derives for one instance.
pub(super) const DERIVED: Measured =
    Measured::of_tiers(226.0, "| series that a gateway derives for it |", 0);
pub(super) const GRAPH: Measured =
    Measured::of_tiers(174.0, "| series of the service graph of a gateway |", 0);
/// The cores that a gateway needs for [`GATEWAY_SPANS`] a second.
pub(super) const GATEWAY_CORES: Measured = Measured::of_tiers(0.69, "| cores of a gateway |", 0);
pub(super) const GATEWAY_SPANS: Measured =
    Measured::of_tiers(9_525.0, "| spans a second that it received |", 0);
pub(super) const GATEWAY_IDLE: Measured =
    Measured::of_tiers(118.0, "| memory of an idle gateway, MB |", 0);
pub(super) const WAITING_SPAN: Measured =
    Measured::of_tiers(5_156.0, "| memory for a span that waits, bytes |", 0);

/// Fails if a constant is not the figure that its document shows.
pub(super) fn check() -> Result<()> {
    let figures = [CPU, SPANS, RECORDS, TRACES].concat();
    let single = [
        RELAY,
        WORKER,
        MESSAGE_CPU,
        METRICS,
        SPAN_BYTES,
        RECORD_BYTES,
        SERIES,
        DERIVED,
        GRAPH,
        GATEWAY_CORES,
        GATEWAY_SPANS,
        GATEWAY_IDLE,
        WAITING_SPAN,
    ];
    for figure in figures.iter().chain(&single) {
        let (shown, value) = (figure.shown()?, figure.value);
        let what = figure.line;
        ensure!(
            (shown - value).abs() < 1e-9,
            "{what}: the model has {value}, {} has {shown}",
            figure.page
        );
    }
    Ok(())
}

/// Fails if a figure of the telemetry of requests is not about the model's. How many messages share a batch changes the
/// spans of an addition.
pub(crate) fn compare(figures: &Figures) -> Result<()> {
    let of_requests = [
        (SPANS, figures.spans),
        (RECORDS, figures.logs),
        (TRACES, figures.traces),
    ];
    let of_requests = of_requests
        .into_iter()
        .flat_map(|(model, measured)| model.into_iter().zip(measured));
    let single = [
        (SPAN_BYTES, figures.span_bytes),
        (RECORD_BYTES, figures.log_bytes),
        (SERIES, figures.series),
        (DERIVED, figures.derived_series),
        (GRAPH, figures.graph_series),
    ];
    of_requests.chain(single).try_for_each(is_about)
}

/// Fails if the memory of a gateway is not about the model's. Its CPU time depends on the machine.
pub(crate) fn compare_gateway(gateway: &Gateway) -> Result<()> {
    is_about((GATEWAY_IDLE, gateway.idle / 1e6))?;
    is_about((WAITING_SPAN, gateway.waiting_span))
}

/// Fails if a measured figure differs from the model's by more than a quarter.
fn is_about((model, measured): (Measured, f64)) -> Result<()> {
    let (what, expected) = (model.line, model.value);
    let ratio = measured / expected;
    ensure!(
        (0.75..=1.25).contains(&ratio),
        "{what}: the model has {expected}, measured are {measured:.1}"
    );
    Ok(())
}
