//! Telemetry that no service of ours sends, straight to the collector.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};
use testbed::system::http;

use crate::stack::COLLECTOR;

/// Sends one OTLP request as JSON; `signal` is `traces`, `logs` or `metrics`.
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

/// Spans of one service.
pub(crate) fn spans(service: &str, spans: &[Value]) -> Value {
    json!({"resourceSpans": [{"resource": resource(service), "scopeSpans": [{"spans": spans}]}]})
}

pub(crate) fn resource(service: &str) -> Value {
    json!({"attributes": [text("service.name", service)]})
}

/// A SERVER span that ended just now.
pub(crate) fn span(trace: &str, id: u64, milliseconds: u64, attributes: &[Value]) -> Value {
    let end = now();
    let start = end - u128::from(milliseconds) * 1_000_000;
    json!({
        "traceId": trace, "spanId": format!("{id:016x}"), "name": "GET /drill", "kind": 2,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
    })
}

pub(crate) fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}

/// A gauge that is 1.
pub(crate) fn gauge(service: &str, name: &str, attributes: &[Value]) -> Value {
    let time = now().to_string();
    let point = json!({"timeUnixNano": time, "asDouble": 1.0, "attributes": attributes});
    let metric = json!({"name": name, "gauge": {"dataPoints": [point]}});
    let metrics = json!({"resource": resource(service), "scopeMetrics": [{"metrics": [metric]}]});
    json!({"resourceMetrics": [metrics]})
}
