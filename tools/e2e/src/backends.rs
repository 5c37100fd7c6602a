//! Queries to the HTTP APIs of Prometheus, Alertmanager, Loki, Tempo and Bugsink.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use reqwest::{StatusCode, header::ACCEPT};
use serde_json::Value;
use testbed::{eventually, sink::Span, system::http, trace::Trace};

use crate::{
    Stack,
    stack::{ALERTMANAGER, BUGSINK, BUGSINK_TOKEN, JAEGER, LOKI, PROMETHEUS},
};

/// The maximum time until sent telemetry appears in a query result.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Prometheus: returns the series of an instant query.
pub(crate) async fn series(query: &str) -> Result<Vec<Value>> {
    let url = format!("{PROMETHEUS}/api/v1/query");
    let response = get(&url, &[("query", query)]).await?;
    Ok(array(&response["data"]["result"]))
}

/// Prometheus: returns the series of a query that have values of the last ten minutes, as a panel shows
/// them. The quantile of an empty histogram is NaN, which Grafana does not draw.
pub(crate) async fn drawn(query: &str) -> Result<usize> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (start, end) = ((now - 600).to_string(), now.to_string());
    let range = [
        ("query", query),
        ("start", &start),
        ("end", &end),
        ("step", "5"),
    ];
    let response = get(&format!("{PROMETHEUS}/api/v1/query_range"), &range).await?;
    let has_value = |series: &&Value| {
        let values = series["values"].as_array().into_iter().flatten();
        values.filter(|value| value[1] != "NaN").count() > 0
    };
    let series = array(&response["data"]["result"]);
    Ok(series.iter().filter(has_value).count())
}

/// Prometheus: returns the sum of all series of an instant query, as an integer.
pub(crate) async fn sum(query: &str) -> Result<u64> {
    let series = series(&format!("sum({query})")).await?;
    let value = series.first().and_then(|sum| sum["value"][1].as_str());
    Ok(value.unwrap_or("0").parse()?)
}

/// Prometheus: returns the trace ids of the exemplars of a series.
pub(crate) async fn exemplars(query: &str) -> Result<Vec<String>> {
    let url = format!("{PROMETHEUS}/api/v1/query_exemplars");
    let response = get(&url, &[("query", query)]).await?;
    let series = array(&response["data"]);
    let exemplars = series.iter().flat_map(|series| array(&series["exemplars"]));
    let id = |exemplar: Value| exemplar["labels"]["trace_id"].as_str().map(str::to_owned);
    Ok(exemplars.filter_map(id).collect())
}

/// Prometheus: returns the values of a label of a metric.
pub(crate) async fn label_values(metric: &str, label: &str) -> Result<Vec<String>> {
    let url = format!("{PROMETHEUS}/api/v1/label/{label}/values");
    let response = get(&url, &[("match[]", metric)]).await?;
    let values = array(&response["data"]).into_iter();
    Ok(values
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect())
}

/// Alertmanager: returns the active alerts.
pub(crate) async fn alerts() -> Result<Vec<Value>> {
    let response = get(&format!("{ALERTMANAGER}/api/v2/alerts"), &[]).await?;
    Ok(array(&response))
}

/// Loki: returns the streams of the newest 1000 log records of a query, with their structured
/// metadata.
pub(crate) async fn streams(query: &str) -> Result<Vec<Value>> {
    let url = format!("{LOKI}/loki/api/v1/query_range");
    let response = get(&url, &[("query", query), ("limit", "1000")]).await?;
    Ok(array(&response["data"]["result"]))
}

/// Loki: returns the series of an instant metric query.
pub(crate) async fn log_series(query: &str) -> Result<Vec<Value>> {
    let url = format!("{LOKI}/loki/api/v1/query");
    let response = get(&url, &[("query", query)]).await?;
    Ok(array(&response["data"]["result"]))
}

/// Loki: returns the names of all labels.
pub(crate) async fn labels() -> Result<Vec<Value>> {
    let response = get(&format!("{LOKI}/loki/api/v1/labels"), &[]).await?;
    Ok(array(&response["data"]))
}

/// Tempo or the OTLP sink: returns the spans of a trace that are stored so far. The trace is empty
/// if the id is unknown.
pub(crate) async fn trace(stack: &Stack, id: &str) -> Result<Trace> {
    let response = http()?
        .get(format!("{}/api/traces/{id}", stack.traces_url))
        .header(ACCEPT, "application/protobuf")
        .send()
        .await?;
    let spans = match response.status() {
        StatusCode::NOT_FOUND => Vec::new(),
        _ => Span::of_trace(&response.error_for_status()?.bytes().await?)?,
    };
    Ok(Trace::of(&spans, id))
}

/// Tempo: returns the traces that match a `TraceQL` query.
pub(crate) async fn search(stack: &Stack, query: &str) -> Result<Vec<Value>> {
    let response = get(&format!("{}/api/search", stack.traces_url), &[("q", query)]).await?;
    Ok(array(&response["traces"]))
}

/// Tempo: returns the series of a `TraceQL` metrics query.
pub(crate) async fn trace_series(stack: &Stack, query: &str) -> Result<Vec<Value>> {
    let url = format!("{}/api/metrics/query_range", stack.traces_url);
    let response = get(&url, &[("q", query), ("since", "10m"), ("step", "15s")]).await?;
    Ok(array(&response["series"]))
}

/// Jaeger: returns the trace with this id, or nothing if it is not stored.
pub(crate) async fn jaeger_trace(id: &str) -> Result<Vec<Value>> {
    let response = http()?
        .get(format!("{JAEGER}/api/traces/{id}"))
        .send()
        .await?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(Vec::new()),
        _ => Ok(array(
            &response.error_for_status()?.json::<Value>().await?["data"],
        )),
    }
}

/// Jaeger: returns traces of a service with these tags of spans or processes.
pub(crate) async fn jaeger_search(service: &str, tags: &Value) -> Result<Vec<Value>> {
    let url = format!("{JAEGER}/api/traces");
    let tags = tags.to_string();
    let query = [
        ("service", service),
        ("tags", &tags),
        ("lookback", "1h"),
        ("limit", "20"),
    ];
    let response = get(&url, &query).await?;
    Ok(array(&response["data"]))
}

/// Bugsink: returns the issues of the project.
pub(crate) async fn issues() -> Result<Vec<Value>> {
    let response = bugsink("issues/?project=1").await?;
    Ok(array(&response["results"]))
}

/// Bugsink: returns the events of an issue without their data, newest first.
pub(crate) async fn events_of(issue: &Value) -> Result<Vec<Value>> {
    let id = issue["id"].as_str().unwrap_or_default();
    let response = bugsink(&format!("events/?issue={id}")).await?;
    Ok(array(&response["results"]))
}

/// Bugsink: returns the data of an event from [`events_of`], as the service sent it.
pub(crate) async fn event(event: &Value) -> Result<Value> {
    let id = event["id"].as_str().unwrap_or_default();
    let mut response = bugsink(&format!("events/{id}/")).await?;
    Ok(response["data"].take())
}

async fn bugsink(path: &str) -> Result<Value> {
    let url = format!("{BUGSINK}/api/canonical/0/{path}");
    let response = http()?.get(url).bearer_auth(BUGSINK_TOKEN).send().await?;
    Ok(response.error_for_status()?.json().await?)
}

/// Waits until a query returns at least one result. Returns the number of results, with `unit`.
pub(crate) async fn wait_for_results(
    what: &str,
    unit: &str,
    query: impl AsyncFn() -> Result<Vec<Value>>,
) -> Result<String> {
    let found = async || {
        let found = query().await.ok()?.len();
        (found > 0).then(|| format!("{found} {unit}"))
    };
    eventually(TIMEOUT, what, found).await
}

async fn get(url: &str, query: &[(&str, &str)]) -> Result<Value> {
    let response = http()?.get(url).query(query).send().await?;
    Ok(response.error_for_status()?.json().await?)
}

fn array(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
