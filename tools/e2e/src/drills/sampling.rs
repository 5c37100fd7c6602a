//! Sampling drill: sets the baseline of tail sampling to 0 %. Checks that important traces are
//! kept, and that span metrics count every span.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::eventually;

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    otlp,
    table::Table,
};

const SERVICE: &str = "sampled";
const ORDINARY: &str = "0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The id of each trace that must be kept, and the reason.
const KEPT: [(&str, &str); 5] = [
    ("1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "failed"),
    ("2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "slow"),
    ("3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "retried"),
    ("4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "an injected fault"),
    ("5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "forced"),
];

pub(super) async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    stack.collector.kill().await?;
    let baseline = [("TAIL_SAMPLING_BASELINE_PERCENT", "0")];
    stack.collector.restart_with(&baseline).await?;
    otlp::send("traces", &otlp::spans(SERVICE, &spans())).await?;
    table.check(
        "sampling",
        "baseline 0 %: important traces are kept, ordinary ones are not",
        kept(stack).await,
    );
    table.check(
        "sampling",
        "baseline 0 %: span metrics count every span",
        counted().await,
    );
    stack.collector.kill().await?;
    stack.collector.restart().await
}

fn spans() -> Vec<Value> {
    let mut failed = otlp::span(KEPT[0].0, 1, 1, &[]);
    failed["status"] = json!({"code": 2});
    let retried = json!({"key": "http.request.resend_count", "value": {"intValue": "1"}});
    let forced = json!({"key": "bookapp.debug", "value": {"boolValue": true}});
    vec![
        otlp::span(ORDINARY, 6, 1, &[]),
        failed,
        otlp::span(KEPT[1].0, 2, 900, &[]),
        otlp::span(KEPT[2].0, 3, 1, &[retried]),
        otlp::span(
            KEPT[3].0,
            4,
            1,
            &[otlp::string_attribute("bookapp.fault.type", "latency")],
        ),
        otlp::span(KEPT[4].0, 5, 1, &[forced]),
    ]
}

/// Checks which traces are stored. The collector decides on all of them at the same time: when the
/// last kept trace is stored, the decision on the ordinary trace is made too.
// proves: N8
async fn kept(stack: &Stack) -> Result<String> {
    let mut reasons = Vec::new();
    for (id, reason) in KEPT {
        let stored = async || {
            let trace = backends::trace(stack, id).await.ok()?;
            trace.spans().first().map(drop)
        };
        eventually(TIMEOUT, reason, stored).await?;
        reasons.push(reason);
    }
    let ordinary = backends::trace(stack, ORDINARY).await?;
    anyhow::ensure!(ordinary.spans().is_empty(), "the ordinary trace was kept");
    Ok(reasons.join(", "))
}

async fn counted() -> Result<String> {
    let calls = format!("traces_span_metrics_calls_total{{service_name=\"{SERVICE}\"}}");
    let all = async || {
        let calls = backends::sum(&calls).await.ok()?;
        (calls == 6).then(|| format!("{calls} of 6"))
    };
    eventually(TIMEOUT, &calls, all).await
}
