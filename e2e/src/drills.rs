//! Outages on purpose: a part is killed while books are added, comes back, and everything that was
//! accepted is found.

use std::time::Duration;

use anyhow::{Context, Result};
use demo::system::http;
use serde_json::{Value, json};
use testbed::eventually;
use tokio::time::sleep;

use crate::{
    Stack,
    checks::{Check, PATIENCE, get},
    stack::{LOKI, PROMETHEUS},
};

/// How long a part is gone.
const GONE: Duration = Duration::from_secs(5);
const BOOKS: usize = 20;

/// Each part in turn.
// proves: N21
pub async fn run(stack: &mut Stack) -> Result<Vec<Check>> {
    let mut checks = Vec::new();

    stack.traces.take_away();
    let sent = add_books(stack, "no-traces").await?;
    sleep(GONE).await;
    stack.traces.bring_back().await?;
    checks.push(Check {
        part: "outage",
        what: format!("the trace store was away while {BOOKS} books were added"),
        outcome: traces(stack, &sent).await,
    });

    stack.loki.kill().await?;
    let sent = add_books(stack, "no-loki").await?;
    sleep(GONE).await;
    stack.loki.start_again().await?;
    checks.push(Check {
        part: "outage",
        what: format!("Loki was killed while {BOOKS} books were added"),
        outcome: logs(&sent).await,
    });

    stack.prometheus.kill().await?;
    add_books(stack, "no-prometheus").await?;
    sleep(GONE).await;
    stack.prometheus.start_again().await?;
    checks.push(Check {
        part: "outage",
        what: format!("Prometheus was killed while {BOOKS} books were added"),
        outcome: count(stack).await,
    });

    let sent = add_books(stack, "collector").await?;
    // Accepted: the services export logs every second.
    sleep(Duration::from_secs(2)).await;
    stack.collector.kill().await?;
    stack.collector.start_again().await?;
    checks.push(Check {
        part: "outage",
        what: "the collector was killed: logs".to_owned(),
        outcome: logs(&sent).await,
    });
    checks.push(Check {
        part: "outage",
        what: "the collector was killed: metrics".to_owned(),
        outcome: count(stack).await,
    });
    let stored = stored(stack, &sent);
    let lost = sent.len() - stored;
    checks.push(Check {
        part: "outage (told, not judged)",
        what: "the collector was killed: traces younger than its decision".to_owned(),
        outcome: Ok(format!("{lost} of {} lost, as documented", sent.len())),
    });
    Ok(checks)
}

/// Request and trace ids of what was added.
type Sent = Vec<(String, String)>;

async fn add_books(stack: &Stack, name: &str) -> Result<Sent> {
    let client = http()?;
    let mut sent = Vec::with_capacity(BOOKS);
    for number in 0..BOOKS {
        let request_id = format!("{name}-{number}");
        let answer = client
            .post(format!("{}/books/add", stack.system.bookapp.url))
            .header("x-request-id", &request_id)
            .json(&json!({"title": "Outage", "author": "Nobody"}))
            .send()
            .await?
            .error_for_status()?;
        let traceparent = answer.headers()["traceparent"].to_str()?.to_owned();
        let trace = traceparent
            .split('-')
            .nth(1)
            .context("a trace id")?
            .to_owned();
        sent.push((request_id, trace));
    }
    Ok(sent)
}

async fn traces(stack: &Stack, sent: &Sent) -> Result<String> {
    let all = || async { (stored(stack, sent) == sent.len()).then_some(()) };
    eventually(PATIENCE, "every trace is stored", all)
        .await
        .with_context(|| format!("{} of {} stored", stored(stack, sent), sent.len()))?;
    Ok(format!("{} of {} traces", sent.len(), sent.len()))
}

fn stored(stack: &Stack, sent: &Sent) -> usize {
    let spans = stack.traces.spans();
    let is_stored = |trace: &String| {
        spans
            .iter()
            .any(|span| span.trace_id == *trace && span.name == "POST /books/add")
    };
    sent.iter().filter(|(_, trace)| is_stored(trace)).count()
}

async fn logs(sent: &Sent) -> Result<String> {
    let mut found = 0;
    for (request_id, _) in sent {
        let query = format!("{{service_name=\"bookapp\"}} | telemetry_request_id=\"{request_id}\"");
        let stored = async || {
            let answer = get(&format!("{LOKI}/loki/api/v1/query_range"), &query)
                .await
                .ok()?;
            answer["data"]["result"]
                .as_array()
                .filter(|streams| !streams.is_empty())
                .map(drop)
        };
        eventually(PATIENCE, &query, stored)
            .await
            .with_context(|| format!("{found} found"))?;
        found += 1;
    }
    Ok(format!("{found} of {} requests", sent.len()))
}

/// Prometheus knows as many added books as the database.
async fn count(stack: &Stack) -> Result<String> {
    let url = &stack.system.database_url;
    let added = "select last_value - 92 from books_id_seq";
    let added = testbed::postgres::number(url, added).await?;
    let known = async || {
        let query = "max(bookapp_books_added_total)";
        let answer: Value = get(&format!("{PROMETHEUS}/api/v1/query"), query)
            .await
            .ok()?;
        let known = answer["data"]["result"][0]["value"][1]
            .as_str()?
            .parse::<i64>()
            .ok()?;
        (known == added).then_some(known)
    };
    let known = eventually(PATIENCE, "Prometheus knows every book", known).await?;
    Ok(format!("{known} of {added} books"))
}
