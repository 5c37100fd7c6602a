//! Failures on purpose, as the Sentry-compatible server has them: one issue for each, and from there
//! to the trace and the logs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::Url;
use serde_json::{Value, json};
use testbed::{eventually, system::http};
use tokio::time::sleep;

use crate::{
    Stack,
    backends::{self, PATIENCE},
    table::Table,
};

/// How often each failure is provoked: it is one issue all the same.
const TIMES: usize = 3;

/// A way to fail.
struct Failure {
    service: &'static str,
    kind: &'static str,
    route: &'static str,
    path: &'static str,
}

impl Failure {
    const fn of_bookapp(kind: &'static str) -> Self {
        Self {
            service: "bookapp",
            kind,
            route: "/books/{id}",
            path: "/books/1",
        }
    }

    const fn of_backend(kind: &'static str) -> Self {
        Self {
            service: "backend",
            kind,
            route: "/details",
            path: "/details?ids=1",
        }
    }
}

const FAILURES: [Failure; 4] = [
    Failure::of_bookapp("error"),
    Failure::of_bookapp("panic"),
    Failure::of_backend("error"),
    Failure::of_backend("panic"),
];

// proves: N6
pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let mut issues = BTreeSet::new();
    for failure in &FAILURES {
        let Failure { service, kind, .. } = failure;
        let what =
            format!("{service}: {kind} on purpose is one issue, and leads to trace and logs");
        let found = leads(stack, failure, &mut issues).await;
        table.check("Bugsink", what, found);
    }
}

/// Provokes a failure, finds its one issue, and goes from there to everything else.
async fn leads(stack: &Stack, failure: &Failure, issues: &mut BTreeSet<String>) -> Result<String> {
    let told = provoke(stack, failure).await?;
    let issue = eventually(PATIENCE, "one issue has every event", async || {
        issue_of(&told).await.ok()
    });
    let (issue, events) = issue.await?;
    ensure!(issues.insert(issue), "another failure's issue");
    ensure!(
        events.len() == told.len(),
        "{} events of {} failures",
        events.len(),
        told.len()
    );
    for event in &events {
        opens(stack, failure, &backends::event(event).await?).await?;
    }
    Ok(format!("1 issue of {} events", events.len()))
}

/// Makes a request fail a few times; the Sentry events that the answers name.
async fn provoke(stack: &Stack, failure: &Failure) -> Result<BTreeSet<String>> {
    let Failure {
        service,
        kind,
        route,
        path,
    } = failure;
    let client = http()?;
    let rules = format!("{}/error-injection", stack.bookapp);
    let rule = json!({"endpoint_pattern": route, "http_method": "GET", "error_rate": 1,
        "error_code": 500, "kind": kind, "service": service});
    let stored = client.post(&rules).json(&rule).send().await?;
    stored.error_for_status()?;
    let asked = match *service {
        "bookapp" => &stack.bookapp,
        _ => &stack.backend,
    };
    let url = format!("{asked}{path}");
    let mut told = BTreeSet::new();
    for _ in 0..TIMES {
        let id = eventually(PATIENCE, "the rule strikes", async || {
            let answer = client.get(&url).send().await.ok()?;
            let id = answer.headers().get("x-sentry-event-id")?.to_str().ok()?;
            Some(id.to_owned())
        });
        told.insert(id.await?);
    }
    client.delete(&rules).send().await?.error_for_status()?;
    // An instance may not have heard yet that the rule is gone: what it still injects counts too.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = client.get(&url).send().await?;
        let Some(id) = response.headers().get("x-sentry-event-id") else {
            response.error_for_status()?;
            return Ok(told);
        };
        told.insert(id.to_str()?.to_owned());
        ensure!(
            Instant::now() < deadline,
            "the rule is not gone after {PATIENCE:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// The issue that has all of these events, and every event of it.
async fn issue_of(told: &BTreeSet<String>) -> Result<(String, Vec<Value>)> {
    for issue in backends::issues().await? {
        let events = backends::events_of(&issue).await?;
        let ids = events.iter().filter_map(|event| event["event_id"].as_str());
        let ids: BTreeSet<_> = ids.map(|id| id.replace('-', "")).collect();
        if told.is_subset(&ids) {
            let issue = issue["id"].as_str().context("an issue has an id")?;
            return Ok((issue.to_owned(), events));
        }
    }
    bail!("no issue has them all")
}

/// The stored event names its trace, which is stored and names the event; its logs are found by the
/// same id, and its link opens both.
async fn opens(stack: &Stack, failure: &Failure, event: &Value) -> Result<()> {
    let tags = &event["tags"];
    ensure!(tags["service"] == failure.service, "{tags}");
    ensure!(tags["bookapp.fault.type"] == failure.kind, "{tags}");
    let id = event["contexts"]["trace"]["trace_id"].as_str();
    let id = id.context("the event has no trace")?;
    let found = async || {
        let trace = backends::trace(stack, id).await.ok()?;
        let mut spans = trace.spans().iter();
        let span = spans.find(|span| tags["otel.span_id"] == *span.span_id)?;
        (span.attributes.get("sentry.event_id") == Some(&event["event_id"])).then_some(())
    };
    eventually(PATIENCE, "the trace is stored, with the event's id", found).await?;
    let logs = format!(
        "{{service_name=\"{}\"}} | trace_id=\"{id}\"",
        failure.service
    );
    backends::some(&logs, "streams", async || backends::streams(&logs).await).await?;
    let link = event["contexts"]["grafana"]["url"].as_str();
    let link = Url::parse(link.context("the event has no link")?)?;
    let panes = link.query_pairs().find(|(name, _)| name == "panes");
    let panes: Value = serde_json::from_str(&panes.context("the link has no panes")?.1)?;
    ensure!(panes["t"]["queries"][0]["query"] == id, "{panes}");
    ensure!(panes["l"]["queries"][0]["expr"] == logs, "{panes}");
    Ok(())
}
