//! The data of the page.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::get,
};
use serde::Deserialize;
use serde_json::Value;

use super::live;
use crate::{
    Store,
    store::{LogFilter, Text, TraceFilter, TraceId},
};

/// The maximum number of items of a list.
const MAX_ITEMS: usize = 500;

type Shared = State<Arc<Store>>;
type Invalid = (StatusCode, String);

pub(super) fn router() -> Router<Arc<Store>> {
    Router::new()
        .route("/data/traces", get(traces))
        .route("/data/traces/{id}", get(trace))
        .route("/data/logs", get(logs))
        .route("/data/metrics", get(metrics))
        .route("/data/errors", get(errors))
        .route("/data/overview", get(overview))
        .route("/data/live", get(live::stream))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TracesQuery {
    service: String,
    route: String,
    /// `failed` or `ok`.
    status: String,
    min_ms: Option<f64>,
    max_ms: Option<f64>,
    text: String,
    limit: Option<usize>,
}

async fn traces(
    State(store): Shared,
    Query(query): Query<TracesQuery>,
) -> Result<Json<Value>, Invalid> {
    let filter = TraceFilter {
        service: not_empty(query.service),
        route: not_empty(query.route),
        failed: match &*query.status {
            "" => None,
            "failed" => Some(true),
            "ok" => Some(false),
            other => return Err(invalid(&format!("no status: {other}"))),
        },
        min_ms: query.min_ms,
        max_ms: query.max_ms,
        text: text(&query.text)?,
        limit: limit(query.limit),
    };
    Ok(Json(store.traces(&filter)))
}

async fn trace(State(store): Shared, Path(id): Path<String>) -> Result<Json<Value>, Invalid> {
    let id = TraceId::parse(&id).ok_or_else(|| invalid("a trace id has 32 hex digits"))?;
    Ok(Json(store.trace(id)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogsQuery {
    service: String,
    /// The minimum severity number, such as 13 for WARN.
    min_severity: i32,
    trace: String,
    text: String,
    limit: Option<usize>,
}

async fn logs(
    State(store): Shared,
    Query(query): Query<LogsQuery>,
) -> Result<Json<Value>, Invalid> {
    let trace = match &*query.trace {
        "" => None,
        id => Some(TraceId::parse(id).ok_or_else(|| invalid("a trace id has 32 hex digits"))?),
    };
    let filter = LogFilter {
        service: not_empty(query.service),
        min_severity: query.min_severity,
        trace,
        text: text(&query.text)?,
        limit: limit(query.limit),
    };
    Ok(Json(store.logs(&filter)))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetricsQuery {
    service: String,
    text: String,
    limit: Option<usize>,
}

async fn metrics(State(store): Shared, Query(query): Query<MetricsQuery>) -> Json<Value> {
    let service = not_empty(query.service);
    Json(store.metrics(service.as_deref(), &query.text, limit(query.limit)))
}

async fn errors(State(store): Shared) -> Json<Value> {
    Json(store.errors(MAX_ITEMS))
}

async fn overview(State(store): Shared) -> Json<Value> {
    Json(store.overview())
}

fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn text(text: &str) -> Result<Option<Text>, Invalid> {
    Text::new(text).map_err(|_| invalid("the text is too long"))
}

fn limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(100).min(MAX_ITEMS)
}

fn invalid(reason: &str) -> Invalid {
    (StatusCode::BAD_REQUEST, format!("{reason}\n"))
}
