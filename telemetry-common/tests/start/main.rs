//! Tests of the start and the end of telemetry. Telemetry starts once in a process, so each test
//! starts a program of its own: an ignored test of this file, in a process with other settings.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config_file;
mod lines;
mod programs;
mod variables;

use programs::BURST;

use std::{
    env,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use testbed::{
    process::{Process, Spec},
    sentry::SentrySink,
    sink::Sink,
};

const SOON: Duration = Duration::from_mins(1);

/// Returns the specification of a program: a function in `programs`.
fn program(name: &str) -> Spec {
    let spec = Spec::new(name, env::current_exe().unwrap());
    [
        "--exact",
        &format!("programs::{name}"),
        "--ignored",
        "--nocapture",
    ]
    .into_iter()
    .fold(spec, Spec::arg)
}

/// Runs a program to its end. Returns its output too.
async fn run(spec: &Spec) -> (ExitStatus, String) {
    let process = Process::start(spec).unwrap();
    let status = process.wait(SOON).await;
    let output = process.lines().join("\n");
    (
        status.unwrap_or_else(|error| panic!("{error}:\n{output}")),
        output,
    )
}

/// Runs a program that exports over OTLP and ends with success. Returns what it exported and its
/// output.
async fn exports(name: &str, variables: &[(&str, &str)]) -> (Sink, String) {
    let sink = Sink::start().await.unwrap();
    let spec = program(name).env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint());
    let spec = variables
        .iter()
        .fold(spec, |spec, (name, value)| spec.env(name, *value));
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{name}: {output}");
    (sink, output)
}

#[tokio::test]
async fn every_kind_of_runtime_exports_all_signals() {
    for name in ["multi_thread", "current_thread", "without_runtime"] {
        for protocol in ["http/protobuf", "grpc"] {
            let protocol_variable = ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
            let (sink, output) = exports(name, &[protocol_variable]).await;
            let spans: Vec<_> = sink.spans().into_iter().map(|span| span.name).collect();
            assert_eq!(spans, ["work"], "{name}, {protocol}: {output}");
            let mut logs = sink.logs().into_iter();
            let log = logs.find(|log| log.body == "working").unwrap();
            assert_eq!(log.trace_id, sink.spans()[0].trace_id, "{name}");
            let points = sink.points();
            let uptime = points.iter().any(|point| point.name == "process.uptime");
            let workers = points.iter().any(|point| point.name.contains("tokio"));
            assert_eq!(
                (uptime, workers),
                (true, name != "without_runtime"),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn the_filter_of_spans_applies_to_the_spans_of_requests() {
    let (sink, output) = exports("request", &[]).await;
    let names: Vec<_> = sink.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["GET /hello"], "{output}");
    for filter in ["warn", "info,telemetry_common::edge=off"] {
        let (sink, output) = exports("request", &[("TRACES_FILTER", filter)]).await;
        assert!(sink.spans().is_empty(), "{filter}: {output}");
        let logs = sink.logs();
        let logged = logs
            .iter()
            .any(|log| log.body == "GET /hello responded with 200");
        assert!(logged, "{filter}: {output}");
    }
}

#[tokio::test]
async fn an_early_error_loses_nothing() {
    let sink = Sink::start().await.unwrap();
    let spec = program("an_early_error").env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint());
    let (status, output) = run(&spec).await;
    assert!(!status.success(), "{output}");
    assert_eq!(sink.spans().len(), 1, "{output}");
    assert!(
        sink.logs().iter().any(|log| log.body == "working"),
        "{output}"
    );
}

#[tokio::test]
async fn starting_twice_is_an_error_and_the_first_start_goes_on() {
    let (sink, output) = exports("twice", &[]).await;
    assert_eq!(sink.spans().len(), 1, "{output}");
    let points = sink.points();
    assert!(points.iter().any(|point| point.name == "late"), "{output}");
}

#[tokio::test]
async fn a_failed_start_installs_nothing() {
    let (sink, output) = exports("failed_and_corrected", &[]).await;
    assert_eq!(sink.spans().len(), 1, "{output}");
}

#[tokio::test]
async fn the_application_can_add_to_every_part() {
    let (sink, output) = exports("extended", &[]).await;
    assert!(
        !output.contains("working"),
        "the console is replaced: {output}"
    );
    assert!(
        output.contains("console: an event of start::programs"),
        "{output}"
    );
    let spans = sink.spans();
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["work", "GET /work"], "{spans:?}");
    let span = &spans[0];
    // The sampler drops the other span, and the id generator counts from 7, the span's id.
    assert_eq!(
        (&*span.name, &*span.trace_id),
        ("work", &*format!("{:032x}", 8))
    );
    assert_eq!(span.attributes["by.processor"], "yes");
    assert_eq!(span.resource["team"], "books");
    let logs = sink.logs();
    let log = logs.iter().find(|log| log.body == "working").unwrap();
    assert_eq!(log.attributes["by.processor"], "yes");
    let points = sink.points();
    let renamed = points.iter().any(|point| point.name == "renamed.panics");
    assert!(renamed, "the view renames an instrument");
}

#[tokio::test]
async fn an_error_on_any_thread_of_the_runtime_is_reported_to_sentry() {
    let sentry = SentrySink::start().await.unwrap();
    let spec = program("reports")
        .env("SENTRY_DSN", sentry.dsn())
        .env("OTEL_TRACES_EXPORTER", "console")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none");
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    let events = sentry.events();
    assert_eq!(events.len(), 1, "{output}");
    let trace = events[0]["contexts"]["trace"]["trace_id"].as_str().unwrap();
    assert!(
        output.contains(trace),
        "the event names the trace: {output}"
    );
}

#[tokio::test]
async fn the_detectors_of_other_crates_can_be_added() {
    let (sink, _) = exports("detected", &[("NODE_NAME", "node-1")]).await;
    assert_eq!(sink.spans()[0].resource["k8s.node.name"], "node-1");
}

#[tokio::test]
async fn a_list_of_exporters_exports_to_each() {
    let (sink, output) = exports(
        "scraped",
        &[
            ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ("OTEL_METRICS_EXPORTER", "otlp,prometheus"),
        ],
    )
    .await;
    assert_eq!(sink.spans().len(), 1, "{output}");
    assert!(output.contains("TraceId"), "{output}");
    assert!(output.contains("process_uptime_seconds{"), "{output}");
    assert!(!sink.points().is_empty());
}

// proves: L28
#[tokio::test]
async fn the_process_is_measured_without_work_of_its_own() {
    let (sink, output) = exports("multi_thread", &[]).await;
    let points = sink.points();
    let value = |name: &str, attribute: Option<(&str, &str)>| {
        let mut found = points.iter().filter(|point| {
            point.name == name
                && attribute.is_none_or(|(key, value)| point.attributes[key] == value)
        });
        let point = found.next_back();
        point
            .unwrap_or_else(|| panic!("{name} {attribute:?}: {output}"))
            .value
    };
    let memory = value("process.memory.usage", None);
    assert!(memory > 1e6, "{memory} bytes");
    assert!(value("process.memory.virtual", None) > value("process.memory.usage", None));
    assert!(value("process.uptime", None) > 0.0);
    assert!(value("process.thread.count", None) >= 2.0);
    for (name, key, values) in [
        ("process.cpu.time", "cpu.mode", ["user", "system"]),
        ("process.disk.io", "disk.io.direction", ["read", "write"]),
    ] {
        for of in values {
            assert!(value(name, Some((key, of))) >= 0.0, "{name} {of}");
        }
    }
}

// proves: L23 L24 L26 L27
#[tokio::test]
async fn spans_become_metrics_in_the_names_of_prometheus_whatever_the_filters() {
    let spec = program("measured")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_METRICS_EXPORTER", "prometheus")
        .env("RUST_LOG", "off");
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    for result in ["ok", "error"] {
        let labels = format!(r#"result="{result}",span_name="save",table="books""#);
        let of_result = output.lines().filter(|line| line.contains(&labels));
        let lines: Vec<_> = of_result.collect();
        let is_there = |start: &str, end: &str| {
            let mut lines = lines.iter();
            lines.any(|line| line.starts_with(start) && line.ends_with(end))
        };
        assert!(is_there("db_event_total{", "} 1"), "{output}");
        let bucket = r#"le="0.005"} 1"#;
        assert!(
            is_there("db_event_duration_seconds_bucket{", bucket),
            "{output}"
        );
    }
}

#[tokio::test]
async fn the_rate_limit_drops_and_counts_log_events_of_one_call_site() {
    let (sink, output) = exports("burst", &[("LOG_RATE_LIMIT", "5")]).await;
    let received = sink
        .logs()
        .iter()
        .filter(|log| log.body.starts_with("burst "))
        .count();
    let points = sink.points();
    let mut dropped = points.iter().filter(|point| {
        point.name == "telemetry_common.log.rate_limited"
            && point.attributes["telemetry_common.log.output"] == "logs"
    });
    let dropped = dropped.next_back().map(|point| point.value);
    assert!(
        (5..BURST.cast_unsigned() as usize).contains(&received),
        "{received}"
    );
    let expected = f64::from(BURST - i32::try_from(received).unwrap());
    assert_eq!(dropped, Some(expected), "{received} received");
    let printed = output.lines().filter(|line| line.contains("burst "));
    assert!(
        (5..BURST.cast_unsigned() as usize).contains(&printed.count()),
        "{output}"
    );
}

// proves: L18
#[tokio::test]
async fn a_burst_of_console_lines_is_complete_at_the_end() {
    // Without exporters, the process ends at once.
    let spec = program("burst").env("OTEL_SDK_DISABLED", "true");
    let spec = spec.env("LOG_FORMAT", "text");
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    let numbers = output
        .lines()
        .filter_map(|line| line.split("burst ").nth(1)?.parse::<i32>().ok());
    assert!(numbers.eq(0..BURST), "{output}");
}

#[tokio::test]
async fn a_stuck_console_stops_neither_the_work_nor_the_exit() {
    let spec = program("noisy").env("OTEL_SDK_DISABLED", "true");
    let mut command = spec.command();
    // Nobody reads the pipe.
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking(move || (child.wait().unwrap(), child));
    let (status, _child) = tokio::time::timeout(SOON, ended).await.unwrap().unwrap();
    assert!(status.success());
}
