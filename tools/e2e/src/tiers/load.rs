//! The CPU time and the memory that one gateway needs for a rate of spans.

use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;
use testbed::{eventually, number::to_f64, sink::Sink};

use super::{
    Programs,
    collectors::{own_metric, start},
    traffic::{SPANS, Traffic},
};
use crate::{backends::TIMEOUT, table::Table};

const GATEWAY: &str = "127.0.0.2";
/// How long a gateway holds a trace by default.
const DECISION_WAIT: Duration = Duration::from_secs(15);
const DURATION: Duration = Duration::from_mins(1);

/// What one gateway needs.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// Its resident memory without telemetry, in bytes.
    pub idle: f64,
    /// The memory for a span that waits for a decision, in bytes.
    pub waiting_span: f64,
}

pub(super) async fn measure(
    programs: &Programs,
    spans_per_second: u64,
    table: &mut Table,
) -> Result<Gateway> {
    let data = TempDir::with_prefix("bookapp-tiers-")?;
    let sink = Sink::start().await?;
    let spec = programs.gateway(GATEWAY, data.path(), &sink, &sink);
    let spec = spec
        .env("OTELCOL_MEMORY_MIB", "4000")
        .env(
            "TAIL_SAMPLING_DECISION_WAIT",
            format!("{}s", DECISION_WAIT.as_secs()),
        )
        .env("TAIL_SAMPLING_NUM_TRACES", "1000000");
    let gateway = start(spec, GATEWAY).await?;
    let idle = memory().await?;
    let (started, cpu) = (Instant::now(), gateway.cpu_time()?);
    let mut traffic = Traffic::to(GATEWAY, spans_per_second)?;
    let mut most = idle;
    for _ in 0..DURATION.as_secs() {
        traffic.run(Duration::from_secs(1)).await?;
        most = most.max(memory().await?);
        sink.clear();
    }
    let took = started.elapsed().as_secs_f64();
    let cores = gateway.cpu_time()?.saturating_sub(cpu).as_secs_f64() / took;
    traffic.finish().await?;
    let sent = traffic.begun * SPANS;
    let passed_on = async || {
        let spans = own_metric(GATEWAY, "otelcol_exporter_sent_spans", "")
            .await
            .ok()?;
        (spans == sent).then_some(())
    };
    let passed_on = eventually(TIMEOUT, "the gateway has passed on all spans", passed_on).await;
    let rate = to_f64(sent) / took;
    let held = rate * DECISION_WAIT.as_secs_f64();
    let (idle, most) = (to_f64(idle), to_f64(most));
    let waiting_span = (most - idle) / held;
    let found = passed_on.map(|()| {
        format!(
            "{rate:.0} spans/s: {cores:.2} cores; {:.0} MB idle, {:.0} MB with {held:.0} spans that wait for a decision: {waiting_span:.0} bytes a span",
            idle / 1e6,
            most / 1e6,
        )
    });
    table.check("tiers", "one gateway", found);
    Ok(Gateway { idle, waiting_span })
}

/// Returns the resident memory of the gateway, in bytes.
async fn memory() -> Result<u64> {
    own_metric(GATEWAY, "otelcol_process_memory_rss", "").await
}
