//! What a rate of requests needs: cores, connections, gateways, series and bytes. Writes the table in `docs/scaling.md`.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::tiers::Figures;

use crate::generated;

const PAGE: &str = "docs/scaling.md";
const START: &str = "<!-- start of the generated part -->\n";
const END: &str = "<!-- end of the generated part -->\n";

/// The rates of the columns, in requests per second.
const RATES: [f64; 2] = [1_000.0, 100_000.0];

/// The shares of reads, lists and additions, as in the load of `cargo xtask bench`.
const SHARES: [f64; 3] = [0.8, 0.1, 0.1];
/// The share of its capacity that a part uses, so that there is room for peaks.
const UTILISATION: f64 = 0.6;
/// The time until a gateway decides about a trace, `TAIL_SAMPLING_DECISION_WAIT`, in seconds.
const DECISION_WAIT: f64 = 15.0;
/// The cores of a machine.
const CORES: f64 = 8.0;
/// The maximum number of connections of a service instance, `DATABASE_MAX_CONNECTIONS`.
const CONNECTIONS: f64 = 10.0;
const DAY: f64 = 86_400.0;

/// A measured figure, and the cell of a document that shows it.
#[derive(Clone, Copy)]
struct Measured {
    value: f64,
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

/// The CPU time of a read, a list and an addition in both services, in microseconds.
const CPU: [Measured; 3] = [
    Measured::of_bench(80.0, READ, 0),
    Measured::of_bench(766.0, LIST, 0),
    Measured::of_bench(294.0, ADD, 0),
];
/// The messages that one relay sends per second.
const RELAY: Measured = Measured::of_bench(29_368.0, MESSAGES, 0);
/// The messages that one worker processes per second.
const WORKER: Measured = Measured::of_bench(45_090.0, MESSAGES, 2);
/// The CPU time of a message in the worker, in microseconds.
const MESSAGE_CPU: Measured = Measured::of_bench(15.0, MESSAGES, 3);
/// The size of one export of metrics, each minute by each instance, in bytes.
const METRICS: Measured = Measured::of_bench(16_923.0, "One export of metrics:", 0);

/// The spans of a read, a list, and an addition with its message.
const SPANS: [Measured; 3] = [
    Measured::of_tiers(2.0, SPANS_LINE, 0),
    Measured::of_tiers(5.0, SPANS_LINE, 1),
    Measured::of_tiers(13.6, SPANS_LINE, 2),
];
const SPANS_LINE: &str = "| spans |";
/// Their log records.
const RECORDS: [Measured; 3] = [
    Measured::of_tiers(1.0, RECORDS_LINE, 0),
    Measured::of_tiers(3.0, RECORDS_LINE, 1),
    Measured::of_tiers(3.0, RECORDS_LINE, 2),
];
const RECORDS_LINE: &str = "| log records |";
/// Their traces.
const TRACES: [Measured; 3] = [
    Measured::of_tiers(1.0, TRACES_LINE, 0),
    Measured::of_tiers(1.0, TRACES_LINE, 1),
    Measured::of_tiers(3.5, TRACES_LINE, 2),
];
const TRACES_LINE: &str = "| traces |";
const SPAN_BYTES: Measured = Measured::of_tiers(446.0, "| bytes of a span |", 0);
const RECORD_BYTES: Measured = Measured::of_tiers(342.0, "| bytes of a log record |", 0);
/// The time series of one instance of a service.
const SERIES: Measured = Measured::of_tiers(331.0, "| series of one instance |", 0);
/// Those that a gateway derives for one instance.
const DERIVED: Measured = Measured::of_tiers(226.0, "| series that a gateway derives for it |", 0);
const GRAPH: Measured =
    Measured::of_tiers(174.0, "| series of the service graph of a gateway |", 0);
/// The cores that a gateway needs for [`GATEWAY_SPANS`] a second.
const GATEWAY_CORES: Measured = Measured::of_tiers(0.92, "| cores of a gateway |", 0);
const GATEWAY_SPANS: Measured =
    Measured::of_tiers(9_679.0, "| spans a second that it received |", 0);
const GATEWAY_IDLE: Measured = Measured::of_tiers(117.0, "| memory of an idle gateway, MB |", 0);
const WAITING_SPAN: Measured =
    Measured::of_tiers(4_900.0, "| memory for a span that waits, bytes |", 0);

/// A row of the table: what is needed, its formula, and its value at a rate.
type Row = (&'static str, &'static str, fn(&Needs) -> f64);

/// What a rate of requests needs.
struct Needs {
    /// Reads, lists and additions per second.
    requests: [f64; 3],
}

impl Needs {
    fn of(rate: f64) -> Self {
        Self {
            requests: SHARES.map(|share| rate * share),
        }
    }

    /// Returns the sum of a figure over the requests of a second.
    fn sum(&self, figures: [Measured; 3]) -> f64 {
        let pairs = self.requests.iter().zip(figures);
        pairs.map(|(rate, figure)| rate * figure.value).sum()
    }

    /// The messages of a second: one for each addition.
    fn messages(&self) -> f64 {
        self.requests[2]
    }

    fn service_cores(&self) -> f64 {
        (self.sum(CPU) + self.messages() * MESSAGE_CPU.value) / 1e6
    }

    /// Instances of both services, of one core each: at least two of bookapp and the workers.
    fn instances(&self) -> f64 {
        let for_cores = (self.service_cores() / UTILISATION).ceil();
        for_cores.max(2.0 + self.workers())
    }

    fn relays(&self) -> f64 {
        (self.messages() / RELAY.value / UTILISATION).ceil()
    }

    /// At least two, so that one may fail.
    fn workers(&self) -> f64 {
        (self.messages() / WORKER.value / UTILISATION)
            .ceil()
            .max(2.0)
    }

    fn connections(&self) -> f64 {
        self.instances() * CONNECTIONS
    }

    fn spans(&self) -> f64 {
        self.sum(SPANS)
    }

    fn gateway_cores(&self) -> f64 {
        self.spans() / GATEWAY_SPANS.value * GATEWAY_CORES.value
    }

    /// Gateways of two cores each, at least two.
    fn gateways(&self) -> f64 {
        (self.gateway_cores() / 2.0 / UTILISATION).ceil().max(2.0)
    }

    fn waiting(&self) -> f64 {
        self.spans() / self.gateways() * DECISION_WAIT
    }

    fn gateway_memory(&self) -> f64 {
        GATEWAY_IDLE.value + self.waiting() * WAITING_SPAN.value / 1e6
    }

    /// Twice the traces that wait, because they do not arrive evenly.
    fn num_traces(&self) -> f64 {
        2.0 * self.sum(TRACES) / self.gateways() * DECISION_WAIT
    }

    fn machines(&self) -> f64 {
        ((self.service_cores() + self.gateway_cores()) / CORES / UTILISATION)
            .ceil()
            .max(2.0)
    }

    fn series(&self) -> f64 {
        let of_gateway = GRAPH.value + self.instances() * DERIVED.value;
        self.instances() * SERIES.value + self.gateways() * of_gateway
    }

    fn span_bytes(&self) -> f64 {
        self.spans() * SPAN_BYTES.value * DAY
    }

    fn log_bytes(&self) -> f64 {
        self.sum(RECORDS) * RECORD_BYTES.value * DAY
    }

    fn metric_bytes(&self) -> f64 {
        self.instances() * METRICS.value * DAY / 60.0
    }
}

const GIGA: f64 = 1e9;
/// The rows of the table.
const ROWS: [Row; 17] = [
    (
        "reads, lists and additions per second",
        "80 %, 10 % and 10 % of them",
        |it| it.requests.iter().sum(),
    ),
    (
        "cores of both services",
        "CPU time of each request and message",
        Needs::service_cores,
    ),
    (
        "instances of both services, of one core each",
        "cores ÷ utilisation, at least 2 of bookapp and the workers",
        Needs::instances,
    ),
    ("messages per second", "additions", Needs::messages),
    (
        "relays that send",
        "messages ÷ those of one relay ÷ utilisation",
        Needs::relays,
    ),
    (
        "partitions, at least",
        "one for each worker: messages ÷ those of one worker ÷ utilisation, at least 2",
        Needs::workers,
    ),
    (
        "connections to PostgreSQL",
        "`DATABASE_MAX_CONNECTIONS` of each instance",
        Needs::connections,
    ),
    ("spans per second", "spans of each request", Needs::spans),
    (
        "cores of all gateways",
        "spans × cores for a span",
        Needs::gateway_cores,
    ),
    (
        "gateways of two cores",
        "cores ÷ 2 ÷ utilisation, at least 2",
        Needs::gateways,
    ),
    (
        "memory of a gateway, MB",
        "idle + spans of one gateway × `decision_wait` × bytes of a waiting span",
        Needs::gateway_memory,
    ),
    (
        "`TAIL_SAMPLING_NUM_TRACES` of a gateway",
        "2 × traces of one gateway × `decision_wait`",
        Needs::num_traces,
    ),
    (
        "machines of 8 cores, without the stores",
        "all cores ÷ 8 ÷ utilisation, at least 2",
        Needs::machines,
    ),
    (
        "series",
        "those of each instance, and those that each gateway derives for each instance",
        Needs::series,
    ),
    (
        "spans, GB a day, of which 10 % are kept",
        "spans × bytes of a span",
        |it| it.span_bytes() / GIGA,
    ),
    (
        "log records, GB a day",
        "records of each request × bytes of a record",
        |it| it.log_bytes() / GIGA,
    ),
    (
        "metrics, GB a day",
        "one export a minute by each instance",
        |it| it.metric_bytes() / GIGA,
    ),
];

/// Writes the table into the page, and prints it.
#[expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]
pub(crate) fn write() -> Result<()> {
    print!("{}", table());
    Ok(fs::write(PAGE, page()?)?)
}

/// Fails if the table is stale, or a constant is not the measured figure.
pub(crate) fn check() -> Result<()> {
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
    generated::check(PAGE, &page()?, "scale-model")
}

/// Fails if a figure of the telemetry of requests differs from the model's by more than a quarter. How many messages
/// share a batch changes the spans of an addition.
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
    for (model, measured) in of_requests.chain(single) {
        let (what, expected) = (model.line, model.value);
        let ratio = measured / expected;
        ensure!(
            (0.75..=1.25).contains(&ratio),
            "{what}: the model has {expected}, measured are {measured:.1}"
        );
    }
    Ok(())
}

/// Returns the page with the current table.
fn page() -> Result<String> {
    let page = fs::read_to_string(PAGE)?;
    let (before, rest) = page.split_once(START).context("no start of the table")?;
    let (_, after) = rest.split_once(END).context("no end of the table")?;
    Ok(format!("{before}{START}\n{}\n{END}{after}", table()))
}

fn table() -> String {
    let needs = RATES.map(Needs::of);
    let line = |what: &str, formula: &str, values: [String; 2]| {
        format!("| {what} | {formula} | {} |\n", values.join(" | "))
    };
    let rates = RATES.map(|rate| format!("{} requests/s", number(rate)));
    let head = line("", "formula", rates) + "|---|---|---|---|\n";
    let rows = ROWS.map(|(what, formula, value)| {
        line(
            what,
            formula,
            needs.each_ref().map(|needs| number(value(needs))),
        )
    });
    head + &rows.concat()
}

/// Rounds to three digits, and separates thousands.
fn number(value: f64) -> String {
    if value < 100.0 {
        let digits = usize::from(value < 10.0);
        return format!("{value:.digits$}")
            .trim_end_matches(".0")
            .to_owned();
    }
    let unit = 10_f64.powf(value.log10().floor() - 2.0);
    let mut rest = format!("{:.0}", (value / unit).round() * unit);
    let mut groups = Vec::new();
    while rest.len() > 3 {
        groups.insert(0, rest.split_off(rest.len() - 3));
    }
    groups.insert(0, rest);
    groups.join(",")
}
