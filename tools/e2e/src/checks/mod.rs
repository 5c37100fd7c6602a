//! What must be found in the stack after traffic.

mod containers;
mod dashboards;
mod failures;
mod logs;
mod metrics;
mod redaction;
mod registry;
mod traces;

use anyhow::{Context, Result};
use reqwest::Response;
use serde_json::json;
use testbed::{eventually, system::http};

use crate::{Stack, backends::PATIENCE, table::Table};

/// The request whose signals are looked for.
struct Sent {
    /// Its id, which its caller chose.
    request_id: &'static str,
    /// Its trace.
    trace: String,
    /// Traces of requests whose query held a secret.
    secretive: Vec<String>,
}

/// Sends a request of every kind and looks for it everywhere.
pub async fn run(stack: &Stack, table: &mut Table) -> Result<()> {
    let sent = send(stack).await?;
    traces::check(stack, &sent, table).await;
    logs::check(&sent, table).await;
    metrics::check(stack, table).await;
    containers::check(stack, table).await;
    registry::check(stack, table);
    failures::check(stack, table).await;
    dashboards::check(stack, &sent, table).await?;
    redaction::check(stack, &sent, table).await
}

/// Adds a book, waits for the worker, reads the list with a secret in the query.
async fn send(stack: &Stack) -> Result<Sent> {
    let client = http()?;
    let url = &stack.bookapp;
    let request_id = "e2e-request";
    let added = client
        .post(format!("{url}/books/add"))
        .header("x-request-id", request_id)
        .json(&json!({"title": "Piranesi", "author": "Susanna Clarke"}))
        .send()
        .await?
        .error_for_status()?;
    let trace = trace_of(&added)?;
    let id: i64 = added.json().await?;
    let details = format!("{url}/books/{id}/details");
    let derived = || async {
        let answer = client.get(&details).send().await.ok()?;
        answer.error_for_status().ok().map(drop)
    };
    eventually(PATIENCE, "the worker derives the details", derived).await?;
    let mut secretive = Vec::new();
    for _ in 0..20 {
        let url = format!("{url}/books?limit=5&token=s3cr3t");
        secretive.push(trace_of(&client.get(url).send().await?)?);
    }
    Ok(Sent {
        request_id,
        trace,
        secretive,
    })
}

/// The id of the trace an answer names.
pub(crate) fn trace_of(answer: &Response) -> Result<String> {
    let traceparent = answer.headers()["traceparent"].to_str()?;
    let id = traceparent.split('-').nth(1);
    id.map(str::to_owned).context("a trace id")
}
