//! Checks the metrics of the services, the metrics derived from spans, and the metrics of the other
//! components.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::eventually;

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    diagrams::Diagram,
    otlp,
    table::Table,
};

/// `PromQL` queries that must return a series, each with a description.
// proves: B14 B15 B16 B24 B25 B28 B32
const SERIES: [(&str, &str); 18] = [
    ("bookapp_books_added_total", "the application's counter"),
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
        "service graph: bookapp → backend",
    ),
    (
        "traces_service_graph_request_total{client=\"bookapp\",server=\"book.events.v1\"}",
        "service graph: bookapp → topic",
    ),
    (
        "traces_service_graph_request_total{client=\"backend\",server=\"book.events.v1\"}",
        "service graph: backend → topic",
    ),
    ("postgresql_backends", "PostgreSQL"),
    ("kafka_brokers", "Kafka"),
    (
        "kafka_consumer_group_lag{group=\"backend\"}",
        "Kafka's consumer lag",
    ),
    ("bookapp_db_books", "books counted by the collector"),
    (
        "bookapp_db_oldest_row_age_seconds",
        "the oldest rows of outbox and ledger",
    ),
    (
        "httpcheck_status{http_status_class=\"2xx\"} == 1",
        "both services' health",
    ),
    ("system_memory_usage_bytes", "the host"),
    (
        "postgresql_backends{host_name!=\"\"}",
        "the detected resource: the host's name",
    ),
    ("otelcol_exporter_sent_spans", "the collector's own metrics"),
];

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    for (query, what) in SERIES {
        let found =
            backends::wait_for_results(query, "series", async || backends::series(query).await);
        table.check("Prometheus", what, found.await);
    }
    table.check(
        "Prometheus",
        "exemplars refer to stored traces",
        exemplars(stack).await,
    );
    table.check(
        "Prometheus",
        "the service graph has the calls of the diagram in README.md",
        service_graph(stack).await,
    );
    table.check(
        "Prometheus",
        "health probes create no span",
        no_probes().await,
    );
    table.check(
        "Prometheus",
        "an exception that is a span event is counted",
        exceptions().await,
    );
    table.check(
        "Prometheus",
        "a metric at its cardinality limit raises an alert",
        overflow_alert().await,
    );
}

/// The maximum number of exemplars to check; the newest ones are checked.
const EXEMPLARS: usize = 100;

// proves: B14 N7 T15
async fn exemplars(stack: &Stack) -> Result<String> {
    let all_stored = async || {
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
    eventually(TIMEOUT, "every exemplar's trace is stored", all_stored).await
}

/// Checks that the services call each other and their parts as the architecture diagram in README.md
/// shows. The service graph has an edge from a consumer to its topic, so directions are not compared.
// proves: B23
async fn service_graph(stack: &Stack) -> Result<String> {
    let readme = fs::read_to_string(stack.root().join("README.md"))?;
    let diagrams = Diagram::all(&readme)?;
    let architecture = diagrams.first().context("README.md has no diagram")?;
    let arrows = architecture.arrows.iter();
    let calls = arrows.filter(|(from, _)| from != "user");
    let drawn: BTreeSet<_> = calls.map(|(from, to)| pair(from, to)).collect();
    let edges = r#"traces_service_graph_request_total{client=~"bookapp|backend"}"#;
    let compare = async || {
        let edges = backends::series(edges).await.unwrap_or_default();
        let labels = edges.iter().map(|edge| &edge["metric"]);
        let seen = labels.map(|labels| pair(part(&labels["client"]), part(&labels["server"])));
        (seen.collect::<BTreeSet<_>>() == drawn).then(|| format!("{} pairs", drawn.len()))
    };
    eventually(TIMEOUT, &format!("the service graph is {drawn:?}"), compare).await
}

/// Returns the part of the diagram that a node of the service graph represents.
fn part(node: &Value) -> &str {
    match node.as_str().unwrap_or_default() {
        topic if topic.starts_with("book.events.") => "kafka",
        namespace if namespace.contains('|') => "postgres",
        service => service,
    }
}

fn pair(one: &str, other: &str) -> BTreeSet<String> {
    [one, other].map(str::to_owned).into()
}

/// Sends a metric with the overflow attribute, which the SDK sets on the series that aggregates all
/// series beyond the cardinality limit. Checks that the alert fires.
// proves: L29 N12
async fn overflow_alert() -> Result<String> {
    let overflow = json!({"key": "otel.metric.overflow", "value": {"boolValue": true}});
    let metrics = otlp::gauge("unbounded", "capped", &[overflow]);
    otlp::send("metrics", &metrics).await?;
    let alert = r#"ALERTS{alertname="MetricCapped", service_name="unbounded", metric="capped"}"#;
    backends::wait_for_results(alert, "alert", async || backends::series(alert).await).await
}

/// Sends a span with an exception as an event, as services of other projects do. Checks that the collector
/// counts the event and its exception.
// proves: B28
async fn exceptions() -> Result<String> {
    let exception = json!({"timeUnixNano": otlp::now().to_string(), "name": "exception",
        "attributes": [otlp::string_attribute("exception.type", "OutOfPaper")]});
    let mut span = otlp::span("e8ce9710e8ce9710e8ce9710e8ce9710", 1, 1, &[]);
    span["events"] = json!([exception]);
    otlp::send("traces", &otlp::spans("printer", &[span])).await?;
    let query = r#"exceptions_total{service_name="printer", exception_type="OutOfPaper"}
        and on (service_name) bookapp_span_events_received_total"#;
    backends::wait_for_results(query, "series", async || backends::series(query).await).await
}

/// Checks that no span metric names a health probe. The collector computes span metrics before
/// sampling, so they cover every span.
// proves: B24
async fn no_probes() -> Result<String> {
    let calls = "traces_span_metrics_calls_total";
    let probes = backends::series(&format!("{calls}{{span_name=~\".*health.*\"}}")).await?;
    ensure!(probes.is_empty(), "{probes:?}");
    let all = backends::sum(calls).await?;
    ensure!(all > 0, "no span metrics");
    Ok(format!("none of {all} spans"))
}
