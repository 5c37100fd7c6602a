//! One request that fails on purpose, and the Sentry event it becomes: from there to its trace, and
//! back.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use testbed::{System, eventually, sentry::SentrySink, system::http, trace::Trace};

const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen of one failure.
#[derive(Debug)]
pub struct Failure {
    /// What the client was told.
    pub problem: Value,
    /// What Sentry was told.
    pub event: Value,
    /// The trace that the event names.
    pub trace: Trace,
}

impl Failure {
    /// Makes reading a book fail, reads one, and sets it right again.
    pub async fn provoke(system: &System, sentry: &SentrySink) -> Result<Self> {
        let client = http()?;
        let rules = format!("{}/error-injection", system.bookapp.url);
        let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
            "error_code": 500, "error_message": "a failure on purpose"});
        let stored = client.post(&rules).json(&rule).send().await?;
        stored.error_for_status()?;
        let problem = fail(&client, &system.bookapp.url).await?;
        client.delete(&rules).send().await?.error_for_status()?;
        let id = problem["sentry_event_id"].as_str().context("no event")?;
        let event = eventually(PATIENCE, "the event arrives", || async {
            let events = sentry.events().into_iter();
            events.into_iter().find(|event| event["event_id"] == id)
        });
        let event = event.await?;
        let trace = event["contexts"]["trace"]["trace_id"].as_str();
        let trace = trace.context("the event names no trace")?;
        let whole = || async {
            let trace = Trace::of(&system.sink.spans(), trace);
            trace.named("GET /books/{id}").is_some().then_some(trace)
        };
        let trace = eventually(PATIENCE, "the event's trace arrives", whole).await?;
        Ok(Self {
            problem,
            event,
            trace,
        })
    }

    /// The link that opens trace and logs in Grafana.
    pub fn link(&self) -> &str {
        let link = self.event["contexts"]["grafana"]["url"].as_str();
        link.unwrap_or_default()
    }

    /// What must hold, in words, and whether it does.
    pub fn checks(&self) -> Vec<(String, bool)> {
        let tag = |key: &str| self.event["tags"][key].as_str().unwrap_or_default();
        let span = self.trace.spans().iter();
        let span = span
            .into_iter()
            .find(|span| span.span_id == tag("otel.span_id"));
        let named = span.and_then(|span| span.attributes.get("sentry.event_id"));
        let check = |what: &str, holds| (what.to_owned(), holds);
        vec![
            check(
                "the Sentry event names its span's trace",
                span.is_some_and(|span| span.trace_id == tag("otel.trace_id")),
            ),
            check(
                "the span names the Sentry event",
                named == Some(&self.event["event_id"]),
            ),
            check(
                "the answer names both",
                self.problem["trace_id"] == tag("otel.trace_id")
                    && self.problem["sentry_event_id"] == self.event["event_id"],
            ),
            check(
                "the event links to that trace in Grafana",
                self.link().contains(tag("otel.trace_id")),
            ),
        ]
    }
}

/// Reads a book until that fails: a rule is told to the instance in a moment.
async fn fail(client: &Client, url: &str) -> Result<Value> {
    let url = format!("{url}/books/1");
    let failed = || async {
        let answer = client.get(&url).send().await.ok()?;
        let is_failure = answer.status() == StatusCode::INTERNAL_SERVER_ERROR;
        is_failure.then_some(answer)
    };
    let answer = eventually(PATIENCE, "the rule strikes", failed).await?;
    Ok(answer.json().await?)
}
