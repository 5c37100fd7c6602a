//! Queue drill: the collector's persistent queue overflows while the trace store is down. Checks
//! that the services still respond, and that the collector counts every dropped span.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::eventually;

use super::outages::add_book;
use crate::{
    Stack,
    backends::{self, TIMEOUT},
    otlp,
    table::Table,
};

/// The queue size. It is at least one batch, 2048 spans, and far below [`TRACES`] × [`SPANS`].
const QUEUE: &str = "4096";
const TRACES: u64 = 60;
const SPANS: u64 = 500;

pub(super) async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    stack.collector.kill().await?;
    stack
        .collector
        .restart_with(&[("OTELCOL_QUEUE_SIZE", QUEUE)])
        .await?;
    stack.trace_store.kill().await?;
    let responded = flood(stack).await;
    table.check(
        "full queue",
        "the services respond while the queue is full",
        responded,
    );
    let dropped = dropped().await;
    stack.trace_store.restart().await?;
    table.check("full queue", "dropped spans are counted", dropped);
    table.check(
        "full queue",
        "every accepted span is sent or counted as dropped",
        balance(stack).await,
    );
    stack.collector.kill().await?;
    stack.collector.restart().await
}

fn trace(number: u64) -> String {
    format!("{:032x}", 0xf100_d000 + number)
}

/// Sends all traces and adds a book after each. Returns the duration of the slowest response.
async fn flood(stack: &Stack) -> Result<String> {
    let mut slowest = Duration::ZERO;
    for number in 0..TRACES {
        let id = trace(number);
        let spans: Vec<_> = (1..=SPANS)
            .map(|span| otlp::span(&id, span, 1, &[]))
            .collect();
        otlp::send("traces", &otlp::spans("flood", &spans)).await?;
        let start = Instant::now();
        add_book(stack, &format!("flood-{number}")).await?;
        slowest = slowest.max(start.elapsed());
    }
    Ok(format!(
        "{TRACES} of {TRACES} requests, the slowest in {} ms",
        slowest.as_millis()
    ))
}

const DROPPED: &str = "otelcol_exporter_enqueue_failed_spans{exporter=\"otlp_grpc/tempo\"}";

/// The maximum time until the queue is sent and counted. The exporter waits up to 30 s between two
/// attempts, and Prometheus scrapes every 15 s.
const SETTLED: Duration = Duration::from_mins(3);

/// Returns the numbers of accepted, sent and dropped spans. Spans over gRPC, those of the pairs of
/// services, arrived before the collector was restarted, but Prometheus still returns their number.
async fn counts() -> Result<(u64, u64, u64)> {
    let accepted = backends::sum("otelcol_receiver_accepted_spans{transport=\"http\"}").await?;
    let sent = "otelcol_exporter_sent_spans{exporter=\"otlp_grpc/tempo\"}";
    Ok((
        accepted,
        backends::sum(sent).await?,
        backends::sum(DROPPED).await?,
    ))
}

// proves: N21
async fn dropped() -> Result<String> {
    let any = async || {
        let dropped = backends::sum(DROPPED).await.ok()?;
        (dropped > 0).then(|| format!("{dropped} spans"))
    };
    eventually(TIMEOUT, DROPPED, any).await
}

/// Checks that accepted spans = sent spans + dropped spans, and that the collector counted at least
/// as many dropped spans as are missing in the trace store.
async fn balance(stack: &Stack) -> Result<String> {
    let balanced = async || {
        let (accepted, sent, dropped) = counts().await.ok()?;
        let flooded = accepted >= TRACES * SPANS;
        (flooded && accepted == sent + dropped).then_some(())
    };
    let settled = eventually(SETTLED, "the exporter sends its queue", balanced).await;
    let (accepted, sent, dropped) = counts().await?;
    settled.with_context(|| format!("{accepted} accepted, {sent} sent, {dropped} dropped"))?;
    let mut missing = TRACES * SPANS;
    for number in 0..TRACES {
        missing -= u64::try_from(backends::trace(stack, &trace(number)).await?.spans().len())?;
    }
    ensure!(
        missing <= dropped,
        "{missing} spans are missing, {dropped} are counted as dropped"
    );
    Ok(format!(
        "{accepted} accepted = {sent} sent + {dropped} dropped; {missing} not stored"
    ))
}
