//! Outages on purpose: a part is killed while books are added, comes back, and everything that was
//! accepted is found.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use testbed::{eventually, system::http};
use tokio::time::sleep;

use crate::{
    Stack,
    backends::{self, PATIENCE},
    checks::trace_of,
    table::Table,
};

/// How long a part is gone.
const GONE: Duration = Duration::from_secs(5);
const BOOKS: usize = 20;

const PART: &str = "outage";

/// Each part in turn.
// proves: N21
pub(super) async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    stack.traces.kill().await?;
    let sent = add_books(stack, "no-traces").await?;
    sleep(GONE).await;
    stack.traces.start_again().await?;
    let what = format!("the trace store was away while {BOOKS} books were added");
    table.check(PART, what, traces(stack, &sent).await);

    stack.loki.kill().await?;
    let sent = add_books(stack, "no-loki").await?;
    sleep(GONE).await;
    stack.loki.start_again().await?;
    let what = format!("Loki was killed while {BOOKS} books were added");
    table.check(PART, what, logs(&sent).await);

    stack.prometheus.kill().await?;
    add_books(stack, "no-prometheus").await?;
    sleep(GONE).await;
    stack.prometheus.start_again().await?;
    let what = format!("Prometheus was killed while {BOOKS} books were added");
    table.check(PART, what, count(stack).await);

    let sent = add_books(stack, "collector").await?;
    // Accepted: the services export logs every second.
    sleep(Duration::from_secs(2)).await;
    stack.collector.kill().await?;
    stack.collector.start_again().await?;
    table.check(PART, "the collector was killed: logs", logs(&sent).await);
    table.check(
        PART,
        "the collector was killed: metrics",
        count(stack).await,
    );
    let lost = sent.len() - stored(stack, &sent).await?;
    table.check(
        "outage (told, not judged)",
        "the collector was killed: traces younger than its decision",
        Ok(format!("{lost} of {} lost, as documented", sent.len())),
    );
    Ok(())
}

/// Request and trace ids of what was added.
type Sent = Vec<(String, String)>;

async fn add_books(stack: &Stack, name: &str) -> Result<Sent> {
    let mut sent = Vec::with_capacity(BOOKS);
    for number in 0..BOOKS {
        let request_id = format!("{name}-{number}");
        let trace = add_a_book(stack, &request_id).await?;
        sent.push((request_id, trace));
    }
    Ok(sent)
}

/// Adds a book by a request of this id; answers its trace's.
pub(super) async fn add_a_book(stack: &Stack, request_id: &str) -> Result<String> {
    let answer = http()?
        .post(format!("{}/books/add", stack.bookapp))
        .header("x-request-id", request_id)
        .json(&json!({"title": "Outage", "author": "Nobody"}))
        .send()
        .await?;
    trace_of(&answer.error_for_status()?)
}

async fn traces(stack: &Stack, sent: &Sent) -> Result<String> {
    let all = async || (stored(stack, sent).await.ok()? == sent.len()).then_some(());
    eventually(PATIENCE, "every trace is stored", all).await?;
    Ok(format!("{0} of {0} traces", sent.len()))
}

async fn stored(stack: &Stack, sent: &Sent) -> Result<usize> {
    let mut stored = 0;
    for (_, id) in sent {
        let trace = backends::trace(stack, id).await?;
        stored += usize::from(trace.named("POST /books/add").is_some());
    }
    Ok(stored)
}

async fn logs(sent: &Sent) -> Result<String> {
    for (number, (request_id, _)) in sent.iter().enumerate() {
        let query = format!("{{service_name=\"bookapp\"}} | telemetry_request_id=\"{request_id}\"");
        backends::some(&query, "streams", async || backends::streams(&query).await)
            .await
            .with_context(|| format!("{number} found"))?;
    }
    Ok(format!("{0} of {0} requests", sent.len()))
}

/// Prometheus knows as many added books as the database.
async fn count(stack: &Stack) -> Result<String> {
    let added = "select last_value - 92 from books_id_seq";
    let added = testbed::postgres::number(&stack.database_url, added).await?;
    let query = "bookapp_books_added_total";
    let known = async || {
        let known = backends::sum(query).await.ok()?;
        (i64::try_from(known) == Ok(added)).then_some(known)
    };
    let known = eventually(PATIENCE, "Prometheus knows every book", known).await?;
    Ok(format!("{known} of {added} books"))
}
