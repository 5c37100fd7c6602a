//! What is lost, and which traces are split, while gateways join, leave and die.

use std::{collections::HashMap, ops::Range, time::Duration};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;
use testbed::{eventually, sink::Sink};

use super::{
    Programs,
    collectors::{Hosts, own_metric, start},
    traffic::{SPANS, Traffic, trace_id},
};
use crate::{backends::TIMEOUT, table::Table};

const AGENT: &str = "127.0.0.2";
const GATEWAYS: [&str; 3] = ["127.0.0.3", "127.0.0.4", "127.0.0.5"];
const SPANS_PER_SECOND: u64 = 800;
/// The time before and after each change. It is longer than a gateway holds a trace.
const STEADY: Duration = Duration::from_secs(8);
/// The number of spans that one of two gateways takes with it at most when it dies: those of eight seconds, which are the
/// time until it decides, the time between the halves of a trace, and what waits for its backend.
const MOST_LOST: u64 = 8 * SPANS_PER_SECOND * 6 / 10;

/// What became of the traces that began in one phase.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    /// The number of spans that were sent.
    sent: u64,
    /// The number of spans that are not stored.
    lost: u64,
    /// The number of traces that have spans in more than one gateway.
    split: u64,
    /// The number of spans that are stored again.
    repeated: u64,
}

// proves: N29
pub(super) async fn check(programs: &Programs, table: &mut Table) -> Result<()> {
    let data = TempDir::with_prefix("bookapp-tiers-")?;
    let metrics = Sink::start().await?;
    let sinks = [
        Sink::start().await?,
        Sink::start().await?,
        Sink::start().await?,
    ];
    let gateway = |number: usize| {
        let (address, traces) = (GATEWAYS[number], &sinks[number]);
        let spec = programs.gateway(address, data.path(), traces, &metrics);
        start(spec, address)
    };
    let (_first, mut second) = (gateway(0).await?, gateway(1).await?);
    let hosts = Hosts::new(data.path(), &GATEWAYS[..2])?;
    let _agent = start(programs.agent(AGENT, data.path(), &hosts), AGENT).await?;
    let mut traffic = Traffic::to(AGENT, SPANS_PER_SECOND)?;

    let steady = traffic.run(STEADY).await?;

    let third = gateway(2).await?;
    hosts.set(&GATEWAYS)?;
    let joins = change(&mut traffic, 2).await?;

    hosts.set(&GATEWAYS[..2])?;
    let leaves = change(&mut traffic, 3).await?;
    drained(&mut traffic, GATEWAYS[2]).await?;
    drop(third);
    let leaves = leaves.start..traffic.run(STEADY).await?.end;

    let before = traffic.run(2 * STEADY).await?;
    second.kill().await?;
    hosts.set(&GATEWAYS[..1])?;
    let dies = change(&mut traffic, 4).await?;

    let after = traffic.run(STEADY).await?;
    traffic.finish().await?;
    let sent = SPANS * traffic.begun;
    let passed_on = async || {
        let sent_on = own_metric(AGENT, "otelcol_exporter_sent_spans", "")
            .await
            .ok()?;
        (sent_on == sent).then_some(())
    };
    eventually(TIMEOUT, "the agent has passed on all spans", passed_on).await?;
    let all_but_lost = async || {
        let stored = Stored::of(&sinks);
        let lost = |traces: Range<u64>| stored.outcome(traces).lost;
        (lost(0..before.start) + lost(dies.start..after.end) == 0).then_some(stored)
    };
    let stored = eventually(
        TIMEOUT,
        "the gateways store what they accepted",
        all_but_lost,
    )
    .await;
    let stored = stored.unwrap_or_else(|_| Stored::of(&sinks));

    let mut row = |phase, traces, most_lost, may_split| {
        let found = found(stored.outcome(traces), most_lost, may_split);
        table.check("tiers", phase, found);
    };
    row("no change", steady, 0, false);
    row("a gateway joins", joins, 0, true);
    row("a gateway leaves in order", leaves, 0, true);
    row("before a gateway dies", before, MOST_LOST, false);
    row("while the agent notices", dies, 0, false);
    row("after its death", after, 0, false);
    Ok(())
}

/// Describes what became of the traces of a phase.
fn found(outcome: Outcome, most_lost: u64, may_split: bool) -> Result<String> {
    let Outcome {
        sent,
        lost,
        split,
        repeated,
    } = outcome;
    let traces = sent / SPANS;
    let text = format!(
        "of {sent} spans {lost} lost, {repeated} stored again; of {traces} traces {split} split"
    );
    ensure!(lost <= most_lost && (may_split || split == 0), "{text}");
    Ok(text)
}

/// Sends traces until the agent has seen this many lists of gateways, and two seconds more. Returns the numbers of the
/// traces.
async fn change(traffic: &mut Traffic, lists: u64) -> Result<Range<u64>> {
    let first = traffic.begun;
    // The exporters of traces and of metrics each look for themselves.
    let is_seen = async || {
        let seen = own_metric(AGENT, "otelcol_loadbalancer_num_backend_updates", "").await?;
        Ok(seen == 2 * lists)
    };
    run_until(traffic, "the agent sees the change", is_seen).await?;
    Ok(first..traffic.run(Duration::from_secs(2)).await?.end)
}

/// Sends traces until a gateway has passed on all spans that it accepted.
async fn drained(traffic: &mut Traffic, gateway: &str) -> Result<()> {
    let is_drained = async || {
        let accepted = own_metric(gateway, "otelcol_receiver_accepted_spans", "").await?;
        Ok(accepted == own_metric(gateway, "otelcol_exporter_sent_spans", "").await?)
    };
    run_until(traffic, "the gateway has passed on its spans", is_drained).await
}

async fn run_until(
    traffic: &mut Traffic,
    what: &str,
    is: impl AsyncFn() -> Result<bool>,
) -> Result<()> {
    for _ in 0..TIMEOUT.as_secs() {
        traffic.run(Duration::from_secs(1)).await?;
        if is().await? {
            return Ok(());
        }
    }
    bail!("timed out, waiting for: {what}")
}

/// How often each span of a trace is stored in each gateway's backend, by the number of the trace.
struct Stored(HashMap<String, Vec<HashMap<String, u64>>>);

impl Stored {
    fn of(sinks: &[Sink]) -> Self {
        let mut traces: HashMap<_, Vec<HashMap<_, _>>> = HashMap::new();
        for (number, sink) in sinks.iter().enumerate() {
            for span in sink.spans() {
                let gateways = traces.entry(span.trace_id).or_default();
                gateways.resize_with(sinks.len(), HashMap::new);
                *gateways[number].entry(span.span_id).or_default() += 1;
            }
        }
        Self(traces)
    }

    fn outcome(&self, traces: Range<u64>) -> Outcome {
        let mut outcome = Outcome::default();
        for number in traces {
            let gateways = self.0.get(&format!("{:032x}", trace_id(number)));
            let gateways = gateways.map(Vec::as_slice).unwrap_or_default();
            let mut spans: HashMap<&str, u64> = HashMap::new();
            for (span, times) in gateways.iter().flatten() {
                *spans.entry(span).or_default() += times;
            }
            let different = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            let with_spans = gateways.iter().filter(|spans| !spans.is_empty());
            outcome.sent += SPANS;
            outcome.lost += SPANS - different;
            outcome.repeated += spans.values().sum::<u64>() - different;
            outcome.split += u64::from(with_spans.count() > 1);
        }
        outcome
    }
}
