//! The baseline of tail sampling lowered to nothing: what matters is kept all the same, and the
//! metrics made of spans know every one.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::eventually;

use crate::{
    Stack,
    backends::{self, PATIENCE},
    otlp,
    table::Table,
};

const SERVICE: &str = "sampled";
const ORDINARY: &str = "0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// Each trace that must be kept, and why.
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
    stack.collector.start_again_with(&baseline).await?;
    otlp::send("traces", &otlp::spans(SERVICE, &spans())).await?;
    table.check(
        "sampling",
        "baseline 0 %: what matters is kept, the rest is not",
        kept(stack).await,
    );
    table.check(
        "sampling",
        "baseline 0 %: span metrics know every span",
        counted().await,
    );
    stack.collector.kill().await?;
    stack.collector.start_again().await
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
            &[otlp::text("bookapp.fault.type", "latency")],
        ),
        otlp::span(KEPT[4].0, 5, 1, &[forced]),
    ]
}

/// All are decided at once: when the last of them is stored, the ordinary one was decided too.
// proves: N8
async fn kept(stack: &Stack) -> Result<String> {
    let mut why = Vec::new();
    for (id, name) in KEPT {
        let stored = async || {
            let trace = backends::trace(stack, id).await.ok()?;
            trace.spans().first().map(drop)
        };
        eventually(PATIENCE, name, stored).await?;
        why.push(name);
    }
    let ordinary = backends::trace(stack, ORDINARY).await?;
    anyhow::ensure!(ordinary.spans().is_empty(), "the ordinary one was kept");
    Ok(why.join(", "))
}

async fn counted() -> Result<String> {
    let calls = format!("traces_span_metrics_calls_total{{service_name=\"{SERVICE}\"}}");
    let all = async || {
        let calls = backends::sum(&calls).await.ok()?;
        (calls == 6).then(|| format!("{calls} of 6"))
    };
    eventually(PATIENCE, &calls, all).await
}
