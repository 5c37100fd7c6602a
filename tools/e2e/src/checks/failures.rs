//! Injects failures and checks them in Bugsink: each failure is one issue, which leads to its trace
//! and logs.

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
    backends::{self, TIMEOUT},
    table::Table,
};

/// The number of injections of each failure. All of them belong to one issue.
const TIMES: usize = 3;

/// A failure to inject.
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
            route: "/details/{book_id}",
            path: "/details/1",
        }
    }
}

const FAILURES: [Failure; 4] = [
    Failure::of_bookapp("error"),
    Failure::of_bookapp("panic"),
    Failure::of_backend("error"),
    Failure::of_backend("panic"),
];

// proves: B28 N6
pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let mut issues = BTreeSet::new();
    for failure in &FAILURES {
        let Failure { service, kind, .. } = failure;
        let what =
            format!("{service}: an injected {kind} is one issue that links to its trace and logs");
        let found = check_issue(stack, failure, &mut issues).await;
        table.check("Bugsink", what, found);
    }
    let query = "bookapp_log_errors_total and on (service_name) bookapp_exceptions_total";
    let counted =
        backends::wait_for_results(query, "series", async || backends::series(query).await);
    let what = "log records of errors and of exceptions are counted";
    table.check("Prometheus", what, counted.await);
}

/// Injects a failure, finds its issue, and checks the trace and logs of each event.
async fn check_issue(
    stack: &Stack,
    failure: &Failure,
    issues: &mut BTreeSet<String>,
) -> Result<String> {
    let reported = inject(stack, failure).await?;
    let issue = eventually(TIMEOUT, "one issue contains every event", async || {
        issue_of(&reported).await.ok()
    });
    let (issue, events) = issue.await?;
    ensure!(issues.insert(issue), "the issue belongs to another failure");
    ensure!(
        events.len() == reported.len(),
        "{} events for {} failures",
        events.len(),
        reported.len()
    );
    for event in &events {
        check_event(stack, failure, &backends::event(event).await?).await?;
    }
    Ok(format!("1 issue of {} events", events.len()))
}

/// Makes a request fail [`TIMES`] times. Returns the ids of the Sentry events that the responses
/// contain.
async fn inject(stack: &Stack, failure: &Failure) -> Result<BTreeSet<String>> {
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
    let base_url = match *service {
        "bookapp" => &stack.bookapp,
        _ => &stack.backend,
    };
    let url = format!("{base_url}{path}");
    let mut reported = BTreeSet::new();
    for _ in 0..TIMES {
        let id = eventually(TIMEOUT, "the rule injects a failure", async || {
            let response = client.get(&url).send().await.ok()?;
            let id = response.headers().get("x-sentry-event-id")?.to_str().ok()?;
            Some(id.to_owned())
        });
        reported.insert(id.await?);
    }
    client.delete(&rules).send().await?.error_for_status()?;
    // The service may apply the deleted rule for another moment. These failures count too.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let response = client.get(&url).send().await?;
        let Some(id) = response.headers().get("x-sentry-event-id") else {
            ensure!(
                !response.status().is_server_error(),
                "{}",
                response.status()
            );
            return Ok(reported);
        };
        reported.insert(id.to_str()?.to_owned());
        ensure!(
            Instant::now() < deadline,
            "the service still applies the deleted rule after {TIMEOUT:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// Finds the issue that contains all of the `reported` events. Returns its id and all of its
/// events.
async fn issue_of(reported: &BTreeSet<String>) -> Result<(String, Vec<Value>)> {
    for issue in backends::issues().await? {
        let events = backends::events_of(&issue).await?;
        let ids = events.iter().filter_map(|event| event["event_id"].as_str());
        let ids: BTreeSet<_> = ids.map(|id| id.replace('-', "")).collect();
        if reported.is_subset(&ids) {
            let issue = issue["id"].as_str().context("the issue has no id")?;
            return Ok((issue.to_owned(), events));
        }
    }
    bail!("no issue contains all of the reported events")
}

/// Checks a stored event: its trace is stored and names the event, its logs have the same trace id,
/// and its Grafana link opens both.
async fn check_event(stack: &Stack, failure: &Failure, event: &Value) -> Result<()> {
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
    eventually(TIMEOUT, "the trace is stored with the event's id", found).await?;
    let logs = format!(
        "{{service_name=\"{}\"}} | trace_id=\"{id}\"",
        failure.service
    );
    backends::wait_for_results(&logs, "streams", async || backends::streams(&logs).await).await?;
    let link = event["contexts"]["grafana"]["url"].as_str();
    let link = Url::parse(link.context("the event has no Grafana link")?)?;
    let panes = link.query_pairs().find(|(name, _)| name == "panes");
    let panes: Value = serde_json::from_str(&panes.context("the link has no panes")?.1)?;
    ensure!(panes["t"]["queries"][0]["query"] == id, "{panes}");
    ensure!(panes["l"]["queries"][0]["expr"] == logs, "{panes}");
    Ok(())
}
