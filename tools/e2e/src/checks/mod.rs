//! Checks that the stack has stored the telemetry of the traffic.

mod alerts;
mod containers;
mod dashboards;
mod encryption;
mod failures;
mod ingress;
mod jaeger;
mod logs;
mod metrics;
mod pairs;
mod redaction;
mod registry;
mod traces;

use anyhow::{Context, Result};
use reqwest::{
    Response,
    header::{AUTHORIZATION, HOST},
};
use serde_json::json;
use testbed::{eventually, system::http};

use crate::{Stack, backends::TIMEOUT, stack::TRAEFIK, table::Table};

/// The requests whose telemetry the checks look for.
struct Sent {
    /// The request id of the added book.
    request_id: &'static str,
    /// The trace id of the added book.
    trace: String,
    /// The trace ids of requests with a secret in the query string.
    with_secret: Vec<String>,
}

/// Checks that a load without faults raises no alert.
pub async fn without_faults(table: &mut Table) {
    let what = "a load without faults raises no alert but the watchdog";
    table.check("alerts", what, alerts::only_watchdog().await);
}

/// Checks that the queries of alerts and runbooks return data. Run it after the drills, which cause what
/// the queries look for.
pub async fn alert_queries(stack: &Stack, table: &mut Table) {
    alerts::check(stack, table).await;
}

/// Sends requests and checks their telemetry in every component.
pub async fn run(stack: &Stack, table: &mut Table) -> Result<()> {
    let sent = send(stack).await?;
    traces::check(stack, &sent, table).await;
    ingress::check(stack, table).await;
    pairs::check(stack, table).await;
    jaeger::check(stack, &sent, table).await;
    logs::check(stack, &sent, table).await;
    metrics::check(stack, table).await;
    containers::check(stack, table).await;
    encryption::check(stack, table).await;
    registry::check(stack, table);
    failures::check(stack, table).await;
    dashboards::check(stack, &sent, table).await?;
    redaction::check(stack, &sent, table).await
}

/// Adds a book, waits for the worker, and lists books with secrets in the query string and in a header,
/// directly and through the ingress.
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
    let has_details = || async {
        let response = client.get(&details).send().await.ok()?;
        response.error_for_status().ok().map(drop)
    };
    eventually(TIMEOUT, "the worker stores the details", has_details).await?;
    let mut with_secret = Vec::new();
    for base in [&**url, TRAEFIK].iter().cycle().take(20) {
        let request = client.get(format!("{base}/books?limit=5&token=s3cr3t"));
        let request = request.header(AUTHORIZATION, "Bearer s3cr3t");
        let request = request.header(HOST, "bookapp.localhost");
        with_secret.push(trace_of(&request.send().await?)?);
    }
    Ok(Sent {
        request_id,
        trace,
        with_secret,
    })
}

/// Returns the trace id from the `traceparent` header of a response.
pub(crate) fn trace_of(response: &Response) -> Result<String> {
    let traceparent = response.headers()["traceparent"].to_str()?;
    let id = traceparent.split('-').nth(1);
    id.map(str::to_owned)
        .context("no trace id in the traceparent header")
}
