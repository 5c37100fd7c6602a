//! What must be found in the stack after traffic: a check is a name and whether it held, in words.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result};
use demo::{System, system::http, trace::Trace};
use serde_json::{Value, json};
use testbed::eventually;

use crate::{
    Stack,
    stack::{LOKI, PROMETHEUS},
};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// One line of the table.
#[derive(Debug)]
pub struct Check {
    /// Which part was asked.
    pub part: &'static str,
    /// What must hold.
    pub what: String,
    /// Whether it held, or why not.
    pub outcome: Result<String>,
}

/// Queries of Prometheus that must yield something: the series and what it is.
const SERIES: [(&str, &str); 14] = [
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
];

/// Sends traffic and looks for it everywhere.
pub async fn run(stack: &Stack) -> Result<Vec<Check>> {
    let trace = add_a_book(&stack.system).await?;
    let mut checks = Vec::new();
    let mut check = |part, what: &str, outcome| {
        checks.push(Check {
            part,
            what: what.to_owned(),
            outcome,
        });
    };
    check(
        "traces",
        "a request's trace is whole",
        whole(stack, &trace).await,
    );
    check(
        "traces",
        "the worker's trace links to it",
        linked(stack, &trace).await,
    );
    check("traces", "health probes left none", no_probes(stack));
    for service in ["bookapp", "backend"] {
        check(
            "Loki",
            &format!("{service}'s logs by the request's id"),
            logs(service).await,
        );
    }
    check("Loki", "trace_id is no label", labels().await);
    for (query, what) in SERIES {
        check("Prometheus", what, series(query).await);
    }
    check(
        "Prometheus",
        "exemplars open a stored trace",
        exemplars(stack).await,
    );
    check(
        "Locust",
        "its spans are the roots of the services' traces",
        rooted(stack).await,
    );
    check(
        "Prometheus",
        "the collector's own metrics",
        series("otelcol_exporter_sent_spans").await,
    );
    check(
        "redaction",
        "traces, logs and metrics hold no secret",
        redacted(stack).await,
    );
    Ok(checks)
}

const REQUEST_ID: &str = "e2e-request";

/// Adds a book, reads the list with a secret in the query, waits for the worker; answers the trace.
async fn add_a_book(system: &System) -> Result<String> {
    let client = http()?;
    let url = &system.bookapp.url;
    let added = client
        .post(format!("{url}/books/add"))
        .header("x-request-id", REQUEST_ID)
        .json(&json!({"title": "Piranesi", "author": "Susanna Clarke"}))
        .send()
        .await?
        .error_for_status()?;
    let traceparent = added.headers()["traceparent"].to_str()?.to_owned();
    let id: i64 = added.json().await?;
    let details = format!("{url}/books/{id}/details");
    let derived = || async {
        client
            .get(&details)
            .send()
            .await
            .ok()?
            .error_for_status()
            .ok()
            .map(drop)
    };
    eventually(PATIENCE, "the worker derives the details", derived).await?;
    for _ in 0..20 {
        client
            .get(format!("{url}/books?limit=5&token=s3cr3t"))
            .send()
            .await?;
    }
    traceparent
        .split('-')
        .nth(1)
        .map(str::to_owned)
        .context("a trace id")
}

// proves: B25
async fn whole(stack: &Stack, id: &str) -> Result<String> {
    let found = || async {
        let trace = Trace::of(&stack.traces.spans(), id);
        let root = trace.named("POST /books/add").is_some() && trace.roots().len() == 1;
        (root && trace.named("COMMIT").is_some()).then(|| trace.spans().len())
    };
    let spans = eventually(PATIENCE, "the trace is stored", found).await?;
    Ok(format!("{spans} spans"))
}

async fn linked(stack: &Stack, id: &str) -> Result<String> {
    let found = || async {
        let spans = stack.traces.spans();
        let process = spans.iter().find(|span| {
            span.name == "process book.added.v1" && span.links.iter().any(|(trace, _)| trace == id)
        })?;
        Some(process.trace_id.clone())
    };
    eventually(PATIENCE, "the linked trace is stored", found).await
}

// proves: B24
fn no_probes(stack: &Stack) -> Result<String> {
    let spans = stack.traces.spans();
    let probes = spans
        .iter()
        .filter(|span| span.name.contains("health"))
        .count();
    anyhow::ensure!(probes == 0, "{probes} spans of probes");
    Ok(format!("none among {}", spans.len()))
}

// proves: B13 B25
async fn logs(service: &str) -> Result<String> {
    let query = format!(
        "{{service_name=\"{service}\"}} | telemetry_request_id=\"{REQUEST_ID}\" | trace_id!=\"\""
    );
    let found = async || {
        let answer = get(&format!("{LOKI}/loki/api/v1/query_range"), &query)
            .await
            .ok()?;
        let streams = answer["data"]["result"].as_array()?.len();
        (streams > 0).then_some(streams)
    };
    let streams = eventually(PATIENCE, &query, found).await?;
    Ok(format!("{streams} streams"))
}

async fn labels() -> Result<String> {
    let answer: Value = http()?
        .get(format!("{LOKI}/loki/api/v1/labels"))
        .send()
        .await?
        .json()
        .await?;
    let labels: Vec<_> = answer["data"].as_array().into_iter().flatten().collect();
    anyhow::ensure!(!labels.contains(&&json!("trace_id")), "{labels:?}");
    Ok(format!("labels are {}", answer["data"]))
}

// proves: B14 B15 B16 B24 B25 B32
async fn series(query: &str) -> Result<String> {
    let found = async || {
        let answer = get(&format!("{PROMETHEUS}/api/v1/query"), query)
            .await
            .ok()?;
        let series = answer["data"]["result"].as_array()?.len();
        (series > 0).then_some(series)
    };
    let series = eventually(PATIENCE, query, found).await?;
    Ok(format!("{series} series"))
}

// proves: B18
async fn rooted(stack: &Stack) -> Result<String> {
    let found = async || {
        let spans = stack.traces.spans();
        let roots: HashSet<_> = spans
            .iter()
            .filter(|span| span.service() == "locust" && span.parent_id.is_none())
            .map(|span| (&span.trace_id, Some(&span.span_id)))
            .collect();
        let rooted = spans.iter().filter(|span| {
            span.kind == "SERVER"
                && span.service() == "bookapp"
                && roots.contains(&(&span.trace_id, span.parent_id.as_ref()))
        });
        let rooted = rooted.count();
        (rooted > 100).then(|| format!("{rooted} requests"))
    };
    eventually(PATIENCE, "Locust's traces are stored", found).await
}

// proves: B14 T15
async fn exemplars(stack: &Stack) -> Result<String> {
    let found = async || {
        let url = format!("{PROMETHEUS}/api/v1/query_exemplars");
        let answer = get(&url, "traces_span_metrics_duration_seconds_bucket")
            .await
            .ok()?;
        let series = answer["data"].as_array()?;
        let exemplars: Vec<_> = series
            .iter()
            .filter_map(|series| series["exemplars"].as_array())
            .flatten()
            .collect();
        let spans = stack.traces.spans();
        let stored = |exemplar: &&&Value| {
            let id = exemplar["labels"]["trace_id"].as_str();
            id.is_some_and(|id| spans.iter().any(|span| span.trace_id == id))
        };
        let resolved = exemplars.iter().filter(stored).count();
        (resolved > 0).then(|| format!("{resolved} of {}", exemplars.len()))
    };
    eventually(PATIENCE, "exemplars resolve", found).await
}

/// A span that no service of ours would send goes straight to the collector.
// proves: N13
async fn redacted(stack: &Stack) -> Result<String> {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let leak = json!({"resourceSpans": [{
        "resource": {"attributes": [attribute("service.name", "leaky")]},
        "scopeSpans": [{"spans": [{
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
            "name": "leak", "kind": 2,
            "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000",
            "attributes": [
                attribute("http.request.header.authorization", "Bearer s3cr3t"),
                attribute("url.query", "page=1&api_token=s3cr3t"),
                attribute("enduser.email", "s3cr3t@example.org"),
            ],
        }]}],
    }]});
    let sent = http()?
        .post("http://127.0.0.1:4318/v1/traces")
        .json(&leak)
        .send()
        .await?;
    sent.error_for_status()?;
    let found = async || {
        stack
            .traces
            .spans()
            .into_iter()
            .find(|span| span.service() == "leaky")
    };
    let span = eventually(PATIENCE, "the leaky span is stored", found).await?;
    anyhow::ensure!(
        span.attributes["url.query"] == "page=1&api_token=REDACTED",
        "{span:?}"
    );
    anyhow::ensure!(span.attributes.len() >= 3, "{span:?}");
    let spans = format!("{:?}", stack.traces.spans());
    let logs = get(
        &format!("{LOKI}/loki/api/v1/query_range"),
        "{service_name=~\".+\"}",
    )
    .await?;
    let metrics = get(&format!("{PROMETHEUS}/api/v1/query"), "{__name__=~\".+\"}").await?;
    for (signal, text) in [
        ("traces", spans),
        ("logs", logs.to_string()),
        ("metrics", metrics.to_string()),
    ] {
        anyhow::ensure!(!text.contains("s3cr3t"), "{signal} hold a secret");
    }
    Ok("header, query and e-mail redacted".to_owned())
}

/// A backend's answer to a query.
pub(crate) async fn get(url: &str, query: &str) -> Result<Value> {
    Ok(http()?
        .get(url)
        .query(&[("query", query)])
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?)
}
