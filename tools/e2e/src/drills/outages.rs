//! Outage drills: kill a component while books are added, restart it, and check that all accepted
//! telemetry is stored.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::json;
use testbed::{eventually, system::http};
use tokio::time::sleep;

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    checks::trace_of,
    table::Table,
};

/// The duration of an outage.
const OUTAGE: Duration = Duration::from_secs(5);
const BOOKS: usize = 20;

const PART: &str = "outage";

/// Runs one outage for each component.
// proves: N21
pub(super) async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    stack.trace_store.kill().await?;
    let sent = add_books(stack, "no-traces").await?;
    sleep(OUTAGE).await;
    stack.trace_store.restart().await?;
    let what = format!("the trace store was killed while {BOOKS} books were added");
    table.check(PART, what, traces(stack, &sent).await);

    stack.loki.kill().await?;
    let sent = add_books(stack, "no-loki").await?;
    sleep(OUTAGE).await;
    stack.loki.restart().await?;
    let what = format!("Loki was killed while {BOOKS} books were added");
    table.check(PART, what, logs(&sent).await);

    let before = count_now().await?;
    stack.prometheus.kill().await?;
    add_books(stack, "no-prometheus").await?;
    sleep(OUTAGE).await;
    stack.prometheus.restart().await?;
    let what = format!("Prometheus was killed while {BOOKS} books were added");
    table.check(PART, what, counted(before + BOOKS as u64).await);

    let before = count_now().await?;
    let sent = add_books(stack, "collector").await?;
    // The services export logs every second: after two seconds, the collector has accepted them.
    sleep(Duration::from_secs(2)).await;
    stack.collector.kill().await?;
    stack.collector.restart().await?;
    table.check(PART, "the collector was killed: logs", logs(&sent).await);
    let what = "the collector was killed: metrics";
    table.check(PART, what, counted(before + BOOKS as u64).await);
    let lost = sent.len() - stored(stack, &sent).await?;
    table.check(
        "outage (reported only)",
        "the collector was killed: traces before their sampling decision",
        Ok(format!("{lost} of {} lost, as documented", sent.len())),
    );
    Ok(())
}

/// The request id and the trace id of each added book.
type Sent = Vec<(String, String)>;

async fn add_books(stack: &Stack, name: &str) -> Result<Sent> {
    let mut sent = Vec::with_capacity(BOOKS);
    for number in 0..BOOKS {
        let request_id = format!("{name}-{number}");
        let trace = add_book(stack, &request_id).await?;
        sent.push((request_id, trace));
    }
    Ok(sent)
}

/// Adds a book with this request id. Returns the trace id.
pub(super) async fn add_book(stack: &Stack, request_id: &str) -> Result<String> {
    let response = http()?
        .post(format!("{}/books/add", stack.bookapp))
        .header("x-request-id", request_id)
        .json(&json!({"title": "Outage", "author": "Nobody"}))
        .send()
        .await?;
    trace_of(&response.error_for_status()?)
}

async fn traces(stack: &Stack, sent: &Sent) -> Result<String> {
    let all = async || (stored(stack, sent).await.ok()? == sent.len()).then_some(());
    eventually(TIMEOUT, "every trace is stored", all).await?;
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
        let query =
            format!("{{service_name=\"bookapp\"}} | telemetry_common_request_id=\"{request_id}\"");
        backends::wait_for_results(&query, "streams", async || backends::streams(&query).await)
            .await
            .with_context(|| format!("found the logs of {number} requests"))?;
    }
    Ok(format!("{0} of {0} requests", sent.len()))
}

/// The application's counter of added books.
const ADDED: &str = "bookapp_books_added_total";

/// Returns how many books bookapp has added until now, from a sample that it exported after now.
async fn count_now() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let query = format!("{ADDED} and timestamp({ADDED}) > {now}");
    let newer = async || {
        let newer = backends::series(&query).await.ok()?;
        (!newer.is_empty()).then_some(())
    };
    eventually(TIMEOUT, "Prometheus has a newer sample", newer).await?;
    backends::sum(ADDED).await
}

/// Waits until Prometheus counts exactly this many added books.
async fn counted(expected: u64) -> Result<String> {
    let all = async || (backends::sum(ADDED).await.ok()? == expected).then_some(());
    match eventually(TIMEOUT, "Prometheus counts every book", all).await {
        Ok(()) => Ok(format!("{expected} of {expected} books")),
        Err(error) => {
            let counted = backends::sum(ADDED).await?;
            Err(error.context(format!("{counted} of {expected} books")))
        }
    }
}
