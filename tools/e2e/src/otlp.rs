//! Sends synthetic telemetry directly to the collector.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};
use testbed::system::http;

use crate::stack::COLLECTOR;

/// Sends an OTLP/JSON request. `signal` is `traces`, `logs` or `metrics`.
pub(crate) async fn send(signal: &str, request: &Value) -> Result<()> {
    let url = format!("{COLLECTOR}/v1/{signal}");
    http()?
        .post(url)
        .json(request)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

/// Builds a trace export request with the spans of one service.
pub(crate) fn spans(service: &str, spans: &[Value]) -> Value {
    json!({"resourceSpans": [{"resource": resource(service), "scopeSpans": [{"spans": spans}]}]})
}

pub(crate) fn resource(service: &str) -> Value {
    json!({"attributes": [string_attribute("service.name", service)]})
}

/// Builds a SERVER span that ends now.
pub(crate) fn span(trace: &str, id: u64, milliseconds: u64, attributes: &[Value]) -> Value {
    let end = now();
    let start = end - u128::from(milliseconds) * 1_000_000;
    json!({
        "traceId": trace, "spanId": format!("{id:016x}"), "name": "GET /drill", "kind": 2,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
    })
}

pub(crate) fn string_attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Returns the current time in nanoseconds since the Unix epoch.
pub(crate) fn now() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}

/// Builds a metrics export request with one gauge of value 1.
pub(crate) fn gauge(service: &str, name: &str, attributes: &[Value]) -> Value {
    let time = now().to_string();
    let point = json!({"timeUnixNano": time, "asDouble": 1.0, "attributes": attributes});
    let metric = json!({"name": name, "gauge": {"dataPoints": [point]}});
    let metrics = json!({"resource": resource(service), "scopeMetrics": [{"metrics": [metric]}]});
    json!({"resourceMetrics": [metrics]})
}
