//! Every query of every dashboard, and of every link between data sources, has an answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use testbed::{eventually, system::http};

use super::Sent;
use crate::{
    Stack,
    backends::{self, PATIENCE},
    dashboards::{Dashboard, Query, data_sources, links},
    table::Table,
};

/// How long a request must take for the panels of slow ones.
const SLOW: Duration = Duration::from_millis(100);
/// What Grafana puts in place of its own variables.
const INTERVAL: &str = "5m";

// proves: N20 R5 B15
pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) -> Result<()> {
    slow(stack).await?;
    for dashboard in Dashboard::all(stack.root())? {
        let choices = choices(&dashboard).await?;
        for panel in dashboard.panels().filter(|panel| !panel.is_text()) {
            let what = format!("{}: {}", dashboard.uid(), panel.title());
            let queries = panel.queries();
            if !stack.is_tempo && queries.iter().any(Query::asks_tempo) {
                table.not_run("Grafana", &what, "the OTLP sink stands in Tempo's place");
                continue;
            }
            let found = rows(stack, &queries, &choices).await;
            table.check("Grafana", what, found);
        }
    }
    for (label, mut query) in data_sources(stack.root())?.iter().flat_map(links) {
        if !stack.is_tempo && query.asks_tempo() {
            table.not_run("Grafana", &label, "the OTLP sink stands in Tempo's place");
            continue;
        }
        query.text = followed(&query.text, &sent.trace);
        let found = rows(stack, &[query], &[]).await;
        table.check("Grafana", format!("link: {label}"), found);
    }
    Ok(())
}

/// A link's question as it is asked from a span of this trace.
fn followed(question: &str, trace: &str) -> String {
    let service = "service_name=\"bookapp\"";
    [
        ("${linked}", trace.trim_start_matches('0')),
        ("${traceID}", trace),
        ("${__trace.traceId}", trace),
        ("${__tags}", service),
        ("$__tags", service),
    ]
    .iter()
    .fold(question.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

impl Query {
    /// Whether only Tempo can answer; its service graph comes from Prometheus.
    fn asks_tempo(&self) -> bool {
        self.source == "tempo" && !self.is_graph
    }
}

/// One request of each service that takes long.
async fn slow(stack: &Stack) -> Result<()> {
    let client = http()?;
    let rules = format!("{}/error-injection", stack.bookapp);
    let millis = u32::try_from(SLOW.as_millis())?;
    for (service, route, url) in [
        (
            "bookapp",
            "/books/{id}",
            format!("{}/books/1", stack.bookapp),
        ),
        (
            "backend",
            "/details",
            format!("{}/details?ids=1", stack.backend),
        ),
    ] {
        let rule = json!({"endpoint_pattern": route, "http_method": "GET", "error_rate": 1,
            "kind": "latency", "latency_ms": millis, "service": service});
        client
            .post(&rules)
            .json(&rule)
            .send()
            .await?
            .error_for_status()?;
        let held_up = || async {
            let started = Instant::now();
            client.get(&url).send().await.ok()?;
            (started.elapsed() >= SLOW).then_some(())
        };
        eventually(PATIENCE, "a request is slow", held_up).await?;
    }
    client.delete(&rules).send().await?.error_for_status()?;
    Ok(())
}

/// Every choice of a dashboard's variables, one after the other: what stands for what.
async fn choices(dashboard: &Dashboard) -> Result<Vec<(String, String)>> {
    let mut choices = Vec::new();
    for (name, query) in dashboard.variables() {
        let arguments = query
            .strip_prefix("label_values(")
            .context("a variable's query")?;
        let (metric, label) = arguments
            .trim_end_matches(')')
            .split_once(", ")
            .context("two")?;
        let values = backends::label_values(metric, label).await?;
        if values.is_empty() {
            bail!("${name} has no value");
        }
        choices.extend(values.into_iter().map(|value| (format!("${name}"), value)));
    }
    Ok(choices)
}

/// How many rows each query has for each choice; each must have some for one of them.
async fn rows(stack: &Stack, queries: &[Query], choices: &[(String, String)]) -> Result<String> {
    let mut rows = Vec::new();
    for query in queries {
        let texts = texts(query, choices);
        let count = async || {
            let mut counts = Vec::new();
            for text in &texts {
                counts.push(ask(stack, query, text).await.ok()?);
            }
            let none = counts.iter().sum::<usize>() == 0;
            (!none || is_of_failures(query)).then_some(counts)
        };
        let counts = eventually(PATIENCE, &query.text, count).await?;
        rows.extend(counts.iter().map(ToString::to_string));
    }
    let source = queries.first().map_or("", |query| &*query.source);
    Ok(format!("{} rows of {source}", rows.join(" + ")))
}

/// The collector has these series only once something was lost for good.
fn is_of_failures(query: &Query) -> bool {
    let failures = [
        "otelcol_exporter_send_failed_",
        "otelcol_exporter_enqueue_failed_",
    ];
    failures.iter().any(|name| query.text.contains(name))
}

/// What is asked, for each choice of the variable that it names.
fn texts(query: &Query, choices: &[(String, String)]) -> Vec<String> {
    let text = query.text.replace("$__rate_interval", INTERVAL);
    let text = text.replace("$__auto", INTERVAL);
    let chosen = choices
        .iter()
        .filter(|(variable, _)| text.contains(variable));
    let texts: Vec<_> = chosen
        .map(|(variable, value)| text.replace(variable, value))
        .collect();
    if texts.is_empty() { vec![text] } else { texts }
}

async fn ask(stack: &Stack, query: &Query, text: &str) -> Result<usize> {
    let found = match &*query.source {
        "prometheus" => backends::series(text).await?,
        "loki" if text.starts_with("sum") => backends::log_series(text).await?,
        "loki" => backends::streams(text).await?,
        "tempo" if query.is_graph => backends::series("traces_service_graph_request_total").await?,
        "tempo" => backends::search(stack, text).await?,
        source => bail!("what is {source}?"),
    };
    // A quantile of nothing is no number, and Grafana draws none.
    let drawn = found.iter().filter(|row| row["value"][1] != "NaN");
    Ok(drawn.count())
}
