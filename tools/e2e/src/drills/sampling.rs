//! Sampling drills. With a baseline of 0 % of the traces, important ones are kept, and span metrics count every
//! span. With one of 10 %, linked traces are kept or dropped together.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::{
    eventually,
    sink::{Sink, Span},
    system::http,
};

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    links::Pairs,
    otlp,
    table::Table,
};

/// The number of books that are added while a tenth of the traces is kept.
const BOOKS: usize = 200;
/// The trace that shows that the decisions about all earlier ones are made.
const LAST: &str = "7aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

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
    restart(stack, "0").await?;
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
    restart(stack, "10").await?;
    let what = "baseline 10 %: linked traces are kept or dropped together";
    match &stack.received {
        Some(received) => table.check("sampling", what, linked(stack, received).await),
        None => table.not_run(
            "sampling",
            what,
            "the checks do not see the traces before sampling",
        ),
    }
    restart(stack, "100").await
}

/// Restarts the collector with this baseline.
async fn restart(stack: &mut Stack, percent: &str) -> Result<()> {
    stack.collector.kill().await?;
    let baseline = [("TAIL_SAMPLING_BASELINE_PERCENT", percent)];
    stack.collector.restart_with(&baseline).await
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

/// Adds books, and compares what is stored of each pair of linked traces.
// proves: N30 N8
async fn linked(stack: &Stack, received: &Sink) -> Result<String> {
    let client = http()?;
    let before: HashSet<_> = trace_ids(&received.spans()).collect();
    for book in 0..BOOKS {
        let book = json!({"title": format!("Kindred {book}"), "author": "Octavia E. Butler"});
        let request = client.post(format!("{}/books/add", stack.bookapp));
        request.json(&book).send().await?.error_for_status()?;
    }
    let processed = || async {
        let mut spans = received.spans();
        spans.retain(|span| !before.contains(&span.trace_id));
        let processed = spans
            .iter()
            .filter(|span| span.name.starts_with("process "));
        (processed.count() >= BOOKS).then_some(spans)
    };
    let spans = eventually(TIMEOUT, "all messages are processed", processed).await?;
    let mut failed = otlp::span(LAST, 7, 1, &[]);
    failed["status"] = json!({"code": 2});
    otlp::send("traces", &otlp::spans(SERVICE, &[failed])).await?;
    let last = || async {
        let trace = backends::trace(stack, LAST).await.ok()?;
        trace.spans().first().map(drop)
    };
    eventually(TIMEOUT, "the last decision is made", last).await?;

    let compared = || async {
        let pairs = Pairs::of(&spans, &stored(stack, &spans).await.ok()?);
        (pairs.torn == 0).then_some(pairs)
    };
    let pairs = eventually(TIMEOUT, "no link leads to a dropped trace", compared).await?;
    let (kept, all) = (pairs.kept, pairs.all());
    ensure!(kept > 0 && kept < all / 3, "{kept} of {all} pairs are kept");
    Ok(format!(
        "{kept} of {all} pairs are kept; of {} pairs only the important trace, of {} only the batch",
        pairs.excused, pairs.of_batches
    ))
}

/// Returns the ids of those traces of `spans` that are stored.
async fn stored(stack: &Stack, spans: &[Span]) -> Result<HashSet<String>> {
    let mut stored = HashSet::new();
    for id in trace_ids(spans).collect::<HashSet<_>>() {
        if !backends::trace(stack, &id).await?.spans().is_empty() {
            stored.insert(id);
        }
    }
    Ok(stored)
}

fn trace_ids(spans: &[Span]) -> impl Iterator<Item = String> {
    spans.iter().map(|span| span.trace_id.clone())
}
