//! Tests of start and shutdown: wrong settings, failing starts, signals, health checks.

use serde_json::json;
use testbed::{
    process::{Process, Signal, Spec},
    sink::Sink,
    system::{Dependencies, http},
    trace::Trace,
};

use crate::helpers::{self, SOON};

// proves: B30 R10 B13 B31
#[tokio::test]
async fn sigterm_exports_the_telemetry_of_earlier_requests() {
    // The export intervals are longer than the test, so only the shutdown flushes telemetry.
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_BSP_SCHEDULE_DELAY", "600000")
            .env("OTEL_BLRP_SCHEDULE_DELAY", "600000")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "600000")
    })
    .await;
    let response = http()
        .unwrap()
        .post(format!("{}/books/add", system.bookapp.url))
        .json(&json!({"title": "Solaris", "author": "Stanisław Lem"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let traceparent = response.headers()["traceparent"].to_str().unwrap();
    let id = traceparent.split('-').nth(1).unwrap();
    assert!(Trace::of(&system.sink.spans(), id).spans().is_empty());

    system.bookapp.process.signal(Signal::SIGTERM);
    assert!(system.bookapp.process.wait(SOON).await.unwrap().success());
    assert_eq!(
        Trace::of(&system.sink.spans(), id).roots()[0].name,
        "POST /books/add"
    );
    assert!(
        system
            .sink
            .logs()
            .iter()
            .any(|log| log.trace_id == id && log.body == "book 93 added")
    );
    let added = |by: &str| {
        let points = system.sink.points().into_iter();
        let mut added = points.filter(|point| point.name == "bookapp.books.added");
        added
            .find(|point| point.attributes["bookapp.books.added.by"] == by)
            .map(|point| point.value)
    };
    assert_eq!(added("single"), Some(1.0));
    assert_eq!(
        added("bulk"),
        Some(0.0),
        "a counter without measurements is exported as zero"
    );
}

// proves: R10
#[tokio::test]
async fn a_failing_start_exports_its_cause() {
    let sink = Sink::start().await.unwrap();
    let binaries = helpers::binaries().await;
    let spec = Spec::new("bookapp", binaries.bookapp())
        .env(
            "DATABASE_URL",
            "postgres://someone:s3cret@127.0.0.1:1/nowhere",
        )
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .env("ADMIN_ADDR", "127.0.0.1:0")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint());
    let process = Process::start(&spec).unwrap();
    assert_eq!(process.wait(SOON).await.unwrap().code(), Some(1));
    let logs = sink.logs();
    let failure = logs
        .iter()
        .find(|log| log.severity == "ERROR")
        .expect("the failure is exported");
    assert_eq!(failure.body, "bookapp failed");
    let cause = failure.attributes["exception.message"].as_str().unwrap();
    assert!(
        cause.starts_with("could not migrate the database: "),
        "{cause}"
    );
    assert!(
        cause.contains("Connection refused"),
        "with the root cause: {cause}"
    );
    let output = format!("{logs:?}{:?}", process.lines());
    assert!(
        output.contains("could not migrate the database"),
        "{output}"
    );
    assert!(!output.contains("s3cret"), "{output}");
}

#[tokio::test]
async fn a_wrong_setting_is_one_line_and_exit_code_2() {
    let binaries = helpers::binaries().await;
    for (name, value) in [
        ("LISTEN_ADDR", "here"),
        ("LOG_FORMAT", "pigeon"),
        ("KAFKA_TRACE_RELATION", "friend"),
        ("SHUTDOWN_TIMEOUT", "later"),
        ("RUST_LOG", "this=is=none"),
    ] {
        let spec = Spec::new("backend", binaries.backend())
            .env(
                "DATABASE_URL",
                "postgres://someone:s3cret@127.0.0.1:1/nowhere",
            )
            .env(name, value);
        let process = Process::start(&spec).unwrap();
        assert_eq!(process.wait(SOON).await.unwrap().code(), Some(2), "{name}");
        let lines = process.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0]
                .to_lowercase()
                .replace('-', "_")
                .contains(&name.to_lowercase()),
            "{lines:?}"
        );
        assert!(!lines[0].contains("s3cret"), "{lines:?}");
    }
}

#[tokio::test]
async fn a_wrong_database_url_is_not_repeated() {
    let binaries = helpers::binaries().await;
    let spec =
        Spec::new("bookapp", binaries.bookapp()).env("DATABASE_URL", "postgres//s3cret@nowhere");
    let process = Process::start(&spec).unwrap();
    assert_eq!(process.wait(SOON).await.unwrap().code(), Some(2));
    let lines = process.lines();
    assert_eq!(
        lines,
        ["error: DATABASE_URL is not a PostgreSQL connection string"]
    );
}

// proves: B24
#[tokio::test]
async fn health_and_idleness_leave_no_trace_and_no_access_log() {
    let system = helpers::start().await;
    let client = http().unwrap();
    for service in [&system.bookapp, &system.backend] {
        for path in ["/health", "/health/live", "/health/ready"] {
            let response = client
                .get(format!("{}{path}", service.url))
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 200);
            assert!(!response.headers().contains_key("traceparent"));
        }
        service.process.signal(Signal::SIGTERM);
        service.process.wait(SOON).await.unwrap();
    }
    // The shutdown has flushed all telemetry: neither the probes nor the relay's idle polls left
    // any.
    assert_eq!(system.sink.spans(), []);
    let logs = system.sink.logs();
    assert!(!logs.is_empty());
    assert!(
        logs.iter().all(|log| !log.body.contains("health")),
        "{logs:?}"
    );
}

#[tokio::test]
async fn with_tracing_off_the_api_works_and_names_no_trace() {
    let system = helpers::start_with(|spec| spec.env("OTEL_SDK_DISABLED", "true")).await;
    let response = http()
        .unwrap()
        .get(format!("{}/books/4711", system.bookapp.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
    assert!(!response.headers().contains_key("traceparent"));
    assert!(response.headers().contains_key("x-request-id"));
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem.get("trace_id"), None);
    system.bookapp.process.signal(Signal::SIGTERM);
    assert!(system.bookapp.process.wait(SOON).await.unwrap().success());
    assert!(system.sink.spans().is_empty() && system.sink.logs().is_empty());
    assert!(system.sink.points().is_empty());
}

// proves: B20 T17
#[tokio::test]
async fn two_instances_that_start_together_migrate_once() {
    let dependencies = Dependencies::for_test_with_empty_database().await.unwrap();
    let sink = Sink::start().await.unwrap();
    let binaries = helpers::binaries().await;
    let spec = dependencies
        .service_spec("bookapp", binaries.bookapp(), &sink)
        .env("LISTEN_ADDR", "127.0.0.1:0");
    let (one, two) = (
        testbed::system::Service::start(&spec),
        testbed::system::Service::start(&spec),
    );
    let (one, two) = tokio::join!(one, two);
    for service in [one.unwrap(), two.unwrap()] {
        let response = http()
            .unwrap()
            .get(format!("{}/books", service.url))
            .send()
            .await
            .unwrap();
        assert_eq!(
            response
                .json::<Vec<serde_json::Value>>()
                .await
                .unwrap()
                .len(),
            92
        );
    }
}
