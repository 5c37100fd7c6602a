//! The backends' own HTTP APIs, each call one question.

use std::time::Duration;

use anyhow::Result;
use reqwest::{StatusCode, header::ACCEPT};
use serde_json::Value;
use testbed::{eventually, sink::Span, system::http, trace::Trace};

use crate::{
    Stack,
    stack::{BUGSINK, BUGSINK_TOKEN, LOKI, PROMETHEUS},
};

/// How long what was sent may take to be found.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Prometheus: the series of a query, now.
pub(crate) async fn series(query: &str) -> Result<Vec<Value>> {
    let url = format!("{PROMETHEUS}/api/v1/query");
    let answer = get(&url, &[("query", query)]).await?;
    Ok(list(&answer["data"]["result"]))
}

/// Prometheus: the sum of a query's series, which count something, now.
pub(crate) async fn sum(query: &str) -> Result<u64> {
    let series = series(&format!("sum({query})")).await?;
    let value = series.first().and_then(|sum| sum["value"][1].as_str());
    Ok(value.unwrap_or("0").parse()?)
}

/// Prometheus: trace ids of the exemplars of a series.
pub(crate) async fn exemplars(query: &str) -> Result<Vec<String>> {
    let url = format!("{PROMETHEUS}/api/v1/query_exemplars");
    let answer = get(&url, &[("query", query)]).await?;
    let series = list(&answer["data"]);
    let exemplars = series.iter().flat_map(|series| list(&series["exemplars"]));
    let id = |exemplar: Value| exemplar["labels"]["trace_id"].as_str().map(str::to_owned);
    Ok(exemplars.filter_map(id).collect())
}

/// Prometheus: the values a label of a metric has.
pub(crate) async fn label_values(metric: &str, label: &str) -> Result<Vec<String>> {
    let url = format!("{PROMETHEUS}/api/v1/label/{label}/values");
    let answer = get(&url, &[("match[]", metric)]).await?;
    let values = list(&answer["data"]).into_iter();
    Ok(values
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect())
}

/// Loki: the streams of a query's newest 1000 lines, each with its structured metadata.
pub(crate) async fn streams(query: &str) -> Result<Vec<Value>> {
    let url = format!("{LOKI}/loki/api/v1/query_range");
    let answer = get(&url, &[("query", query), ("limit", "1000")]).await?;
    Ok(list(&answer["data"]["result"]))
}

/// Loki: what counts lines, now.
pub(crate) async fn log_series(query: &str) -> Result<Vec<Value>> {
    let url = format!("{LOKI}/loki/api/v1/query");
    let answer = get(&url, &[("query", query)]).await?;
    Ok(list(&answer["data"]["result"]))
}

/// Loki: the names of all labels.
pub(crate) async fn labels() -> Result<Vec<Value>> {
    let answer = get(&format!("{LOKI}/loki/api/v1/labels"), &[]).await?;
    Ok(list(&answer["data"]))
}

/// Tempo, or what stands in its place: the spans of a trace so far; none if it is not known.
pub(crate) async fn trace(stack: &Stack, id: &str) -> Result<Trace> {
    let answer = http()?
        .get(format!("{}/api/traces/{id}", stack.traces_url))
        .header(ACCEPT, "application/protobuf")
        .send()
        .await?;
    let spans = match answer.status() {
        StatusCode::NOT_FOUND => Vec::new(),
        _ => Span::of_trace(&answer.error_for_status()?.bytes().await?)?,
    };
    Ok(Trace::of(&spans, id))
}

/// Tempo: the traces a `TraceQL` query finds.
pub(crate) async fn search(stack: &Stack, query: &str) -> Result<Vec<Value>> {
    let answer = get(&format!("{}/api/search", stack.traces_url), &[("q", query)]).await?;
    Ok(list(&answer["traces"]))
}

/// Tempo: the series a `TraceQL` metrics query makes.
pub(crate) async fn trace_series(stack: &Stack, query: &str) -> Result<Vec<Value>> {
    let url = format!("{}/api/metrics/query_range", stack.traces_url);
    let answer = get(&url, &[("q", query), ("since", "10m"), ("step", "15s")]).await?;
    Ok(list(&answer["series"]))
}

/// Bugsink: the issues of the project.
pub(crate) async fn issues() -> Result<Vec<Value>> {
    let answer = bugsink("issues/?project=1").await?;
    Ok(list(&answer["results"]))
}

/// Bugsink: the events of an issue, newest first; what they say is not in it.
pub(crate) async fn events_of(issue: &Value) -> Result<Vec<Value>> {
    let id = issue["id"].as_str().unwrap_or_default();
    let answer = bugsink(&format!("events/?issue={id}")).await?;
    Ok(list(&answer["results"]))
}

/// Bugsink: what an event of [`events_of`] says, as it was sent.
pub(crate) async fn event(event: &Value) -> Result<Value> {
    let id = event["id"].as_str().unwrap_or_default();
    let mut answer = bugsink(&format!("events/{id}/")).await?;
    Ok(answer["data"].take())
}

async fn bugsink(path: &str) -> Result<Value> {
    let url = format!("{BUGSINK}/api/canonical/0/{path}");
    let answer = http()?.get(url).bearer_auth(BUGSINK_TOKEN).send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

/// Waits until a question has an answer that is not empty; says how much was found.
pub(crate) async fn some(
    what: &str,
    unit: &str,
    ask: impl AsyncFn() -> Result<Vec<Value>>,
) -> Result<String> {
    let found = async || {
        let found = ask().await.ok()?.len();
        (found > 0).then(|| format!("{found} {unit}"))
    };
    eventually(PATIENCE, what, found).await
}

async fn get(url: &str, query: &[(&str, &str)]) -> Result<Value> {
    let answer = http()?.get(url).query(query).send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
