//! An injected failure of one request, with its Sentry event and its trace.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use testbed::{System, eventually, sentry::SentrySink, system::http, trace::Trace};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The telemetry of one injected failure.
#[derive(Debug)]
pub struct Failure {
    /// The problem details that the client received.
    pub problem: Value,
    /// The event that Sentry received.
    pub event: Value,
    /// The trace that the event refers to.
    pub trace: Trace,
}

impl Failure {
    /// Injects a failure into `GET /books/{id}`, sends a request, and deletes the rule.
    pub async fn inject(system: &System, sentry: &SentrySink) -> Result<Self> {
        let client = http()?;
        let rules = format!("{}/error-injection", system.bookapp.url);
        let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
            "error_code": 500, "error_message": "an injected failure"});
        let stored = client.post(&rules).json(&rule).send().await?;
        stored.error_for_status()?;
        let problem = wait_for_failure(&client, &system.bookapp.url).await?;
        client.delete(&rules).send().await?.error_for_status()?;
        let id = problem["sentry_event_id"]
            .as_str()
            .context("the problem details name no Sentry event")?;
        let event = eventually(TIMEOUT, "the event arrives", || async {
            let events = sentry.events().into_iter();
            events.into_iter().find(|event| event["event_id"] == id)
        });
        let event = event.await?;
        let trace = event["contexts"]["trace"]["trace_id"].as_str();
        let trace = trace.context("the event has no trace id")?;
        let is_complete = || async {
            let trace = Trace::of(&system.sink.spans(), trace);
            trace.named("GET /books/{id}").is_some().then_some(trace)
        };
        let trace = eventually(TIMEOUT, "the event's trace arrives", is_complete).await?;
        Ok(Self {
            problem,
            event,
            trace,
        })
    }

    /// Returns the link that opens the trace and its logs in Grafana.
    pub fn link(&self) -> &str {
        let link = self.event["contexts"]["grafana"]["url"].as_str();
        link.unwrap_or_default()
    }

    /// Returns the checks of the failure, each with a description and whether it passes.
    pub fn checks(&self) -> Vec<(String, bool)> {
        let tag = |key: &str| self.event["tags"][key].as_str().unwrap_or_default();
        let span = self.trace.spans().iter();
        let span = span
            .into_iter()
            .find(|span| span.span_id == tag("otel.span_id"));
        let named = span.and_then(|span| span.attributes.get("sentry.event_id"));
        let check = |what: &str, passes| (what.to_owned(), passes);
        vec![
            check(
                "the Sentry event contains the trace id of its span",
                span.is_some_and(|span| span.trace_id == tag("otel.trace_id")),
            ),
            check(
                "the span contains the id of the Sentry event",
                named == Some(&self.event["event_id"]),
            ),
            check(
                "the response contains both ids",
                self.problem["trace_id"] == tag("otel.trace_id")
                    && self.problem["sentry_event_id"] == self.event["event_id"],
            ),
            check(
                "the event links to the trace in Grafana",
                self.link().contains(tag("otel.trace_id")),
            ),
        ]
    }
}

/// Reads a book until the request fails, because an instance applies a new rule after a short
/// delay.
async fn wait_for_failure(client: &Client, url: &str) -> Result<Value> {
    let url = format!("{url}/books/1");
    let failed = || async {
        let response = client.get(&url).send().await.ok()?;
        let is_failure = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
        is_failure.then_some(response)
    };
    let response = eventually(TIMEOUT, "the rule injects a failure", failed).await?;
    Ok(response.json().await?)
}
