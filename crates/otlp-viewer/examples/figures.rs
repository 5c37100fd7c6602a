//! Measures the viewer with 100,000 spans and as many log records: its memory, and how long the page waits for
//! each filter. Fails if it takes more than 300 MiB or a filter more than 200 ms.
//!
//! `cargo run --release -p otlp-viewer --example figures`, on Linux. It sends what BookApp would send for 14,286
//! additions of a book. The memory is that of the process, with the client that sends.
#![expect(clippy::print_stdout, reason = "it prints figures for people")]

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, span::Link},
};
use otlp_viewer::{Capacity, Viewer};
use prost::Message;
use reqwest::{Client, header::CONTENT_TYPE};

const SPANS: u64 = 100_000;
/// The spans of a trace.
const NAMES: [&str; 7] = [
    "POST /books/add",
    "books.add",
    "BEGIN",
    "INSERT books",
    "create book.events.v1",
    "INSERT outbox",
    "COMMIT",
];
const MAX_MEMORY_MIB: u64 = 300;
const MAX_FILTER: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let viewer = Viewer::start(&["127.0.0.1:0".parse()?], Capacity::default()).await?;
    let url = viewer.url();
    let client = Client::builder().timeout(Duration::from_secs(30)).build()?;
    println!("sending {SPANS} spans and log records");
    let mut bytes = 0;
    let started = Instant::now();
    for first in (0..SPANS).step_by(500) {
        let numbers = first..first + 500;
        let spans = traces(numbers.clone()).encode_to_vec();
        let logs = logs(numbers).encode_to_vec();
        bytes += spans.len() + logs.len();
        for (path, body) in [("traces", spans), ("logs", logs)] {
            let request = client.post(format!("{url}/v1/{path}"));
            let request = request.header(CONTENT_TYPE, "application/x-protobuf");
            request.body(body).send().await?.error_for_status()?;
        }
    }
    println!(
        "sent {} MiB in {:.1} s",
        bytes >> 20,
        started.elapsed().as_secs_f64()
    );
    let mut is_good = true;
    println!("\n| request of the page | slowest of 5 |\n|---|---|");
    for path in [
        "traces",
        "traces?service=bookapp&route=/books/add&limit=500",
        "traces?status=failed",
        "traces?min_ms=100000",
        "traces?text=Stanis%C5%82aw%20lem",
        "traces?text=in%20no%20span",
        "logs?text=in%20no%20log%20record",
        "logs?min_severity=17",
        "overview",
    ] {
        let mut slowest = Duration::ZERO;
        for _ in 0..5 {
            let started = Instant::now();
            let response = client.get(format!("{url}/data/{path}")).send().await?;
            response.error_for_status()?.bytes().await?;
            slowest = slowest.max(started.elapsed());
        }
        println!("| `{path}` | {:.0} ms |", slowest.as_secs_f64() * 1e3);
        is_good &= slowest <= MAX_FILTER;
    }
    let memory = memory_mib()?;
    println!("\nmemory: {memory} MiB");
    is_good &= memory <= MAX_MEMORY_MIB;
    if !is_good {
        println!(
            "over the limit of {MAX_MEMORY_MIB} MiB or {} ms",
            MAX_FILTER.as_millis()
        );
    }
    Ok(ExitCode::from(u8::from(!is_good)))
}

/// Returns the resident memory of this process.
fn memory_mib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? / 1024)
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}

fn resource() -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "bookapp"),
            text("service.version", "0.2.0"),
            text("host.name", "localhost"),
            text("deployment.environment.name", "local"),
        ],
        ..Resource::default()
    }
}

fn ids(number: u64) -> (Vec<u8>, Vec<u8>) {
    let trace = number / NAMES.len() as u64 + 1;
    let trace = u128::from(trace).to_be_bytes().to_vec();
    (trace, (number + 1).to_be_bytes().to_vec())
}

fn traces(numbers: std::ops::Range<u64>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource()),
            scope_spans: vec![ScopeSpans {
                spans: numbers.map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// Returns a span as BookApp creates it: the first one of a trace is the request, the others are its children.
fn span(number: u64) -> Span {
    let name = NAMES[usize::try_from(number).unwrap_or_default() % NAMES.len()];
    let (trace_id, span_id) = ids(number);
    let is_request = name == NAMES[0];
    let first = number - number % NAMES.len() as u64;
    let start = 1_795_996_800_000_000_000 + number * 1_000_000;
    let mut attributes = vec![
        text("db.system.name", "postgresql"),
        text("db.namespace", "books"),
        text(
            "db.query.text",
            "INSERT INTO books (title, author, status) VALUES ($1, $2, $3) RETURNING id",
        ),
        text("server.address", "127.0.0.1"),
        text("messaging.message.id", format!("01KB9Q3Y{number:018}")),
        text("note", format!("Solaris {number} by Stanisław Lem")),
    ];
    if is_request {
        attributes.extend([
            text("http.route", "/books/add"),
            text("http.request.method", "POST"),
            text("url.path", "/books/add"),
            text("url.scheme", "http"),
            text(
                "user_agent.original",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
            ),
            text("client.address", "127.0.0.1"),
            text(
                "telemetry_common.request.id",
                format!("01KB9Q3Y{number:018}"),
            ),
        ]);
    }
    let links = (name == "create book.events.v1").then(|| Link {
        trace_id: trace_id.clone(),
        span_id: ids(first).1,
        ..Link::default()
    });
    Span {
        trace_id,
        span_id,
        parent_span_id: if is_request { Vec::new() } else { ids(first).1 },
        name: name.to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 900_000,
        attributes,
        links: links.into_iter().collect(),
        ..Span::default()
    }
}

fn logs(numbers: std::ops::Range<u64>) -> ExportLogsServiceRequest {
    let record = |number| {
        let (trace_id, span_id) = ids(number);
        LogRecord {
            time_unix_nano: 1_795_996_800_000_000_000 + number * 1_000_000,
            severity_number: 9,
            severity_text: "INFO".to_owned(),
            event_name: "telemetry_common.http.server.responded".to_owned(),
            body: text(
                "",
                format!("POST /books/add responded with 201, book {number}"),
            )
            .value,
            attributes: vec![
                text("http.route", "/books/add"),
                text("http.request.method", "POST"),
                text(
                    "telemetry_common.request.id",
                    format!("01KB9Q3Y{number:018}"),
                ),
            ],
            trace_id,
            span_id,
            ..LogRecord::default()
        }
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource()),
            scope_logs: vec![ScopeLogs {
                log_records: numbers.map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}
