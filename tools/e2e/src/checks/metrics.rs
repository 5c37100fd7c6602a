//! Metrics: the services' own, the derived, and those of the parts around them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::eventually;

use crate::{
    Stack,
    backends::{self, PATIENCE},
    otlp,
    table::Table,
};

/// Queries of Prometheus that must yield something: the series and what it is.
// proves: B14 B15 B16 B24 B25 B32
const SERIES: [(&str, &str); 15] = [
    ("bookapp_books_added_total", "the application's own count"),
    (
        "http_server_request_duration_seconds_count{http_route=\"/books/add\"}",
        "request durations",
    ),
    (
        "db_client_operation_duration_seconds_count",
        "database durations",
    ),
    (
        "messaging_process_duration_seconds_count",
        "processing durations",
    ),
    (
        "traces_span_metrics_calls_total{service_name=\"backend\"}",
        "span metrics",
    ),
    (
        "bookapp_spans_received_total",
        "spans counted before sampling",
    ),
    (
        "traces_service_graph_request_total{client=\"bookapp\",server=\"backend\"}",
        "graph: bookapp → backend",
    ),
    (
        "traces_service_graph_request_total{client=\"bookapp\",server=\"book.added.v1\"}",
        "graph: bookapp → topic",
    ),
    (
        "traces_service_graph_request_total{client=\"backend\",server=\"book.added.v1\"}",
        "graph: backend → topic",
    ),
    ("postgresql_backends", "PostgreSQL"),
    (
        "kafka_consumer_group_lag{group=\"backend\"}",
        "Kafka's consumer lag",
    ),
    ("bookapp_db_books", "books counted by the collector"),
    (
        "httpcheck_status{http_status_class=\"2xx\"} == 1",
        "both services' health",
    ),
    ("system_memory_usage_bytes", "the host"),
    ("otelcol_exporter_sent_spans", "the collector's own metrics"),
];

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    for (query, what) in SERIES {
        let found = backends::some(query, "series", async || backends::series(query).await);
        table.check("Prometheus", what, found.await);
    }
    table.check(
        "Prometheus",
        "exemplars open stored traces",
        exemplars(stack).await,
    );
    table.check(
        "Prometheus",
        "health probes left no span",
        no_probes().await,
    );
    table.check(
        "Prometheus",
        "a capped metric raises an alert",
        capped().await,
    );
}

/// The newest of them; those of the outages to come are not stored yet.
const EXEMPLARS: usize = 100;

// proves: B14 N7 T15
async fn exemplars(stack: &Stack) -> Result<String> {
    let resolved = async || {
        let ids = backends::exemplars("traces_span_metrics_duration_seconds_bucket")
            .await
            .ok()?;
        let ids: BTreeSet<_> = ids.into_iter().rev().take(EXEMPLARS).collect();
        for id in &ids {
            let trace = backends::trace(stack, id).await.ok()?;
            trace.spans().first()?;
        }
        (!ids.is_empty()).then(|| format!("{0} of {0}", ids.len()))
    };
    eventually(PATIENCE, "every exemplar's trace is stored", resolved).await
}

/// A metric with the mark that the SDK gives the sum of all series beyond its cap.
// proves: L29 N12
async fn capped() -> Result<String> {
    let mark = json!({"key": "otel.metric.overflow", "value": {"boolValue": true}});
    let metrics = otlp::gauge("unbounded", "capped", &[mark]);
    otlp::send("metrics", &metrics).await?;
    let alert = r#"ALERTS{alertname="MetricCapped", service_name="unbounded", metric="capped"}"#;
    backends::some(alert, "alert", async || backends::series(alert).await).await
}

/// Span metrics are made of every span, before any is sampled.
// proves: B24
async fn no_probes() -> Result<String> {
    let calls = "traces_span_metrics_calls_total";
    let probes = backends::series(&format!("{calls}{{span_name=~\".*health.*\"}}")).await?;
    ensure!(probes.is_empty(), "{probes:?}");
    let all = backends::sum(calls).await?;
    ensure!(all > 0, "no span at all");
    Ok(format!("none among {all}"))
}
