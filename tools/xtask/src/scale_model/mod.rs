//! What a rate of requests needs: cores, connections, gateways, series and bytes. Writes the table in `docs/scaling.md`.

mod measured;
mod needs;

use std::fs;

use anyhow::Result;

use self::needs::Needs;
use crate::generated;

pub(crate) use measured::{compare, compare_gateway};

const PAGE: &str = "docs/scaling.md";

/// The rates of the columns, in requests per second.
const RATES: [f64; 2] = [1_000.0, 100_000.0];

/// A row of the table: what is needed, its formula, and its value at a rate.
type Row = (&'static str, &'static str, fn(&Needs) -> f64);

const GIGA: f64 = 1e9;
/// The rows of the table.
const ROWS: [Row; 19] = [
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
        "`DATABASE_MAX_CONNECTIONS` of each instance, one for its readiness, one for the relay of each bookapp",
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
        "memory limit of its container, MB",
        "memory ÷ 64 %: it refuses data beyond 80 % of `OTELCOL_MEMORY_MIB`, which is 80 % of the limit",
        Needs::gateway_limit,
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
        "those of each instance, and those that each gateway derives for each instance and for its service graph",
        Needs::series,
    ),
    (
        "samples per second in Prometheus",
        "series ÷ 15 s, the time between two exports",
        Needs::samples,
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
        "metrics of the services, GB a day",
        "an export each 15 s by each instance",
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
    Ok(fs::write(PAGE, generated::page(PAGE, &table())?)?)
}

/// Fails if the table is stale, or a constant is not the measured figure.
// proves: N29
pub(crate) fn check() -> Result<()> {
    measured::check()?;
    let page = generated::page(PAGE, &table())?;
    generated::check(PAGE, &page, "scale-model")
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
