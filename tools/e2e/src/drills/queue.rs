//! The collector's queue on disk fills while the trace store is away: the services do not notice,
//! and every span that is not stored was counted.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::eventually;

use super::outages::add_a_book;
use crate::{
    Stack,
    backends::{self, PATIENCE},
    otlp,
    table::Table,
};

/// Many more spans than the queue takes, whose smallest batch is 2048.
const QUEUE: &str = "4096";
const TRACES: u64 = 60;
const SPANS: u64 = 500;

pub(super) async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    stack.collector.kill().await?;
    stack
        .collector
        .start_again_with(&[("OTELCOL_QUEUE_SIZE", QUEUE)])
        .await?;
    stack.traces.kill().await?;
    let answered = flood(stack).await;
    table.check(
        "full queue",
        "the services answer while it is full",
        answered,
    );
    let dropped = dropped().await;
    stack.traces.start_again().await?;
    table.check("full queue", "what did not fit is counted", dropped);
    table.check(
        "full queue",
        "what is not stored was counted, no more, no less",
        balance(stack).await,
    );
    stack.collector.kill().await?;
    stack.collector.start_again().await
}

fn trace(number: u64) -> String {
    format!("{:032x}", 0xf100_d000 + number)
}

/// Sends it all, a book after each trace; says how long the slowest answer took.
async fn flood(stack: &Stack) -> Result<String> {
    let mut slowest = Duration::ZERO;
    for number in 0..TRACES {
        let id = trace(number);
        let spans: Vec<_> = (1..=SPANS)
            .map(|span| otlp::span(&id, span, 1, &[]))
            .collect();
        otlp::send("traces", &otlp::spans("flood", &spans)).await?;
        let start = Instant::now();
        add_a_book(stack, &format!("flood-{number}")).await?;
        slowest = slowest.max(start.elapsed());
    }
    Ok(format!(
        "{TRACES} of {TRACES}, the slowest in {} ms",
        slowest.as_millis()
    ))
}

const DROPPED: &str = "otelcol_exporter_enqueue_failed_spans{exporter=\"otlp_grpc/tempo\"}";

// proves: N21
async fn dropped() -> Result<String> {
    let some = async || {
        let dropped = backends::sum(DROPPED).await.ok()?;
        (dropped > 0).then(|| format!("{dropped} spans"))
    };
    eventually(PATIENCE, DROPPED, some).await
}

/// What the collector took = what it sent + what it says it dropped; and it sent what is stored.
async fn balance(stack: &Stack) -> Result<String> {
    let settled = async || {
        let taken = backends::sum("otelcol_receiver_accepted_spans")
            .await
            .ok()?;
        let sent = backends::sum("otelcol_exporter_sent_spans{exporter=\"otlp_grpc/tempo\"}")
            .await
            .ok()?;
        let dropped = backends::sum(DROPPED).await.ok()?;
        let flooded = taken >= TRACES * SPANS;
        (flooded && taken == sent + dropped).then_some((taken, sent, dropped))
    };
    let (taken, sent, dropped) =
        eventually(PATIENCE, "the collector's numbers add up", settled).await?;
    let mut missing = TRACES * SPANS;
    for number in 0..TRACES {
        missing -= u64::try_from(backends::trace(stack, &trace(number)).await?.spans().len())?;
    }
    ensure!(missing <= dropped, "{missing} missing, {dropped} counted");
    Ok(format!(
        "{taken} taken = {sent} sent + {dropped} dropped; {missing} of the flood missing"
    ))
}
