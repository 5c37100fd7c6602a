//! Checks that every query of every dashboard and of every link between data sources returns data.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use testbed::{eventually, system::http};

use super::Sent;
use crate::{
    Stack,
    backends::{self, TIMEOUT},
    dashboards::{Dashboard, Query, data_sources, links},
    table::Table,
};

/// The injected latency, which fills the panels about slow requests.
const SLOW: Duration = Duration::from_millis(100);
/// The value that replaces Grafana's interval variables.
const INTERVAL: &str = "5m";

// proves: N20 R5 B15
pub(super) async fn check(stack: &Stack, sent: &Sent, table: &mut Table) -> Result<()> {
    inject_latency(stack).await?;
    for dashboard in Dashboard::all(stack.root())? {
        let values = variable_values(&dashboard).await?;
        for panel in dashboard.panels().filter(|panel| !panel.is_text()) {
            let what = format!("{}: {}", dashboard.uid(), panel.title());
            let queries = panel.queries();
            if !stack.is_tempo && queries.iter().any(Query::needs_tempo) {
                table.not_run("Grafana", &what, "the OTLP sink replaces Tempo");
                continue;
            }
            let found = rows(stack, &queries, &values).await;
            table.check("Grafana", what, found);
        }
    }
    for (label, mut query) in data_sources(stack.root())?.iter().flat_map(links) {
        if !stack.is_tempo && query.needs_tempo() {
            table.not_run("Grafana", &label, "the OTLP sink replaces Tempo");
            continue;
        }
        query.text = link_query(&query.text, &sent.trace);
        let found = rows(stack, &[query], &[]).await;
        table.check("Grafana", format!("link: {label}"), found);
    }
    Ok(())
}

/// Replaces the variables of a link's query, as Grafana does for a span of this trace.
fn link_query(query: &str, trace: &str) -> String {
    let service = "service_name=\"bookapp\"";
    [
        ("${linked}", trace.trim_start_matches('0')),
        ("${traceID}", trace),
        ("${__trace.traceId}", trace),
        ("${__tags}", service),
        ("$__tags", service),
    ]
    .iter()
    .fold(query.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

impl Query {
    /// Returns whether the query runs in Tempo. The service graph comes from Prometheus.
    fn needs_tempo(&self) -> bool {
        self.source == "tempo" && !self.is_service_graph
    }
}

/// Injects latency into one route of each service until a request is slow.
async fn inject_latency(stack: &Stack) -> Result<()> {
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
            "/details/{book_id}",
            format!("{}/details/1", stack.backend),
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
        let is_slow = || async {
            let started = Instant::now();
            client.get(&url).send().await.ok()?;
            (started.elapsed() >= SLOW).then_some(())
        };
        eventually(TIMEOUT, "a request is slow", is_slow).await?;
    }
    client.delete(&rules).send().await?.error_for_status()?;
    Ok(())
}

/// Returns every value of every variable of a dashboard, as pairs such as `("$service",
/// "bookapp")`.
async fn variable_values(dashboard: &Dashboard) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for (name, query) in dashboard.variables() {
        let arguments = query
            .strip_prefix("label_values(")
            .context("the variable's query is not label_values(metric, label)")?;
        let (metric, label) = arguments
            .trim_end_matches(')')
            .split_once(", ")
            .context("label_values needs a metric and a label")?;
        let values = backends::label_values(metric, label).await?;
        if values.is_empty() {
            bail!("${name} has no value");
        }
        pairs.extend(values.into_iter().map(|value| (format!("${name}"), value)));
    }
    Ok(pairs)
}

/// Runs each query with each variable value and returns the numbers of rows. Each query must return
/// rows for at least one value.
async fn rows(stack: &Stack, queries: &[Query], values: &[(String, String)]) -> Result<String> {
    let mut rows = Vec::new();
    for query in queries {
        let texts = substitute(query, values);
        let count = async || {
            let mut counts = Vec::new();
            for text in &texts {
                counts.push(count_rows(stack, query, text).await.ok()?);
            }
            let is_empty = counts.iter().sum::<usize>() == 0;
            (!is_empty || may_be_empty(stack, query)).then_some(counts)
        };
        let counts = eventually(TIMEOUT, &query.text, count).await?;
        rows.extend(counts.iter().map(ToString::to_string));
    }
    let source = queries.first().map_or("", |query| &*query.source);
    Ok(format!("{} rows of {source}", rows.join(" + ")))
}

/// Returns whether a query may return no rows: the collector creates these series only when it
/// drops data, and in compose the console lines need a profile.
fn may_be_empty(stack: &Stack, query: &Query) -> bool {
    let failures = [
        "otelcol_exporter_send_failed_",
        "otelcol_exporter_enqueue_failed_",
    ];
    let needs_profile = stack.is_compose() && query.text.contains("-console");
    needs_profile || failures.iter().any(|name| query.text.contains(name))
}

/// Returns the query once for each value of its variable, with the value in place of the variable.
fn substitute(query: &Query, values: &[(String, String)]) -> Vec<String> {
    let text = query.text.replace("$__rate_interval", INTERVAL);
    let text = text.replace("$__auto", INTERVAL);
    let used = values
        .iter()
        .filter(|(variable, _)| text.contains(variable));
    let texts: Vec<_> = used
        .map(|(variable, value)| text.replace(variable, value))
        .collect();
    if texts.is_empty() { vec![text] } else { texts }
}

async fn count_rows(stack: &Stack, query: &Query, text: &str) -> Result<usize> {
    let found = match &*query.source {
        "prometheus" => return backends::drawn(text).await,
        "loki" if text.starts_with("sum") => backends::log_series(text).await?,
        "loki" => backends::streams(text).await?,
        "tempo" if query.is_service_graph => {
            backends::series("traces_service_graph_request_total").await?
        }
        "tempo" => backends::search(stack, text).await?,
        source => bail!("unknown data source {source}"),
    };
    Ok(found.len())
}
