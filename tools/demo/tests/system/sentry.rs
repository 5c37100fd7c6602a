//! Tests of Sentry events: their content, their links to traces, and the behaviour if Sentry fails.

use std::time::Instant;

use book_events::BOOK_EVENTS;
use futures::{StreamExt, stream};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use reqwest::Url;
use serde_json::Value;
use testbed::{
    System, eventually,
    process::{Process, Signal, Spec},
    sentry::SentrySink,
    system::{Dependencies, http},
};

use crate::{
    helpers::{self, SOON},
    loss::{STOP, black_hole},
};

// proves: B11 B12 N5
#[tokio::test]
async fn a_failed_request_is_one_event_that_links_to_its_trace_and_back() {
    let sentry = SentrySink::start().await.unwrap();
    let system = start_without_database(&sentry).await;
    let url = format!("{}/books/1", system.bookapp.url);
    let request = http().unwrap().get(url).header("x-request-id", "load-42");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    let header = response.headers()["x-sentry-event-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let problem: Value = response.json().await.unwrap();

    let event = only_event(&sentry).await;
    assert_eq!(event["event_id"].as_str().unwrap(), header);
    assert_eq!(problem["sentry_event_id"], header);
    let trace = problem["trace_id"].as_str().unwrap();
    let tags = &event["tags"];
    assert_eq!(tags["otel.trace_id"], trace);
    assert_eq!(event["contexts"]["trace"]["trace_id"], trace);
    assert_eq!(tags["otel.sampled"], "true");
    assert_eq!(tags["service"], "bookapp");
    assert_eq!(tags["http.route"], "/books/{id}");
    assert_eq!(tags["telemetry_common.request.id"], "load-42");
    assert!(event["release"].as_str().unwrap().starts_with("bookapp@"));

    // The span in which the error happened contains the event id.
    let span_id = tags["otel.span_id"].as_str().unwrap();
    assert_eq!(event["contexts"]["trace"]["span_id"], span_id);
    let named = || async {
        let spans = system.sink.spans();
        spans.into_iter().find(|span| span.span_id == span_id)
    };
    let span = eventually(SOON, "the span", named).await.unwrap();
    assert_eq!((&*span.name, &*span.trace_id), ("GET /books/{id}", trace));
    assert_eq!(span.attributes["sentry.event_id"], header);

    // The event contains the complete error chain, root cause first, our error with its location.
    let chain = event["exception"]["values"].as_array().unwrap();
    let last = chain.last().unwrap();
    assert_eq!(last["type"], "bookapp::error::ApiError::Database");
    assert_eq!(last["value"], "could not read the book");
    assert_eq!(last["stacktrace"]["frames"][0]["in_app"], true);
    assert!(chain.len() > 1, "the chain has no causes: {chain:?}");
    let fingerprint = event["fingerprint"].to_string();
    assert!(!fingerprint.contains(trace) && fingerprint.contains("ApiError::Database"));

    let grafana = event["contexts"]["grafana"]["url"].as_str().unwrap();
    assert_link(grafana, trace);
}

/// Checks that the link opens this trace and its logs in Grafana, in a time range that contains
/// now.
fn assert_link(link: &str, trace: &str) {
    let link = Url::parse(link).unwrap();
    assert_eq!(link.host_str(), Some("grafana.example"));
    assert_eq!(link.path(), "/explore");
    let panes = link
        .query_pairs()
        .find(|(key, _)| key == "panes")
        .unwrap()
        .1;
    let panes: Value = serde_json::from_str(&panes).unwrap();
    assert_eq!(panes["t"]["datasource"], "tempo");
    assert_eq!(panes["t"]["queries"][0]["query"], trace);
    assert_eq!(panes["l"]["datasource"], "loki");
    let logs = panes["l"]["queries"][0]["expr"].as_str().unwrap();
    assert_eq!(
        logs,
        format!("{{service_name=\"bookapp\"}} | trace_id=\"{trace}\"")
    );
    let time = |key: &str| {
        panes["t"]["range"][key]
            .as_str()
            .unwrap()
            .parse::<u128>()
            .unwrap()
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((time("from")..time("to")).contains(&now.as_millis()));
}

// proves: N5
#[tokio::test]
async fn a_failed_message_is_one_event_in_the_worker_s_trace() {
    let sentry = SentrySink::start().await.unwrap();
    let system = helpers::start_with(|spec| with_sentry(spec, &sentry)).await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &system.kafka_servers)
        .create()
        .unwrap();
    let record = FutureRecord::to(BOOK_EVENTS).key("1").payload("poison");
    producer.send(record, SOON).await.unwrap();
    let event = only_event(&sentry).await;
    let tags = &event["tags"];
    assert_eq!(tags["service"], "backend");
    assert_eq!(tags["messaging.destination.name"], BOOK_EVENTS);
    let processed = || async {
        let spans = system.sink.spans();
        spans
            .into_iter()
            .find(|span| span.name == "process book.events.v1")
    };
    let span = eventually(SOON, "the span", processed).await.unwrap();
    assert_eq!(tags["otel.trace_id"], *span.trace_id);
    assert_eq!(tags["otel.span_id"], *span.span_id);
    assert_eq!(span.attributes["sentry.event_id"], event["event_id"]);
}

// proves: B26
#[tokio::test]
async fn client_errors_and_health_checks_are_no_events() {
    let sentry = SentrySink::start().await.unwrap();
    let system = helpers::start_with(|spec| with_sentry(spec, &sentry)).await;
    for path in [
        "/books/0",
        "/nowhere",
        "/books?limit=x",
        "/health",
        "/health/ready",
    ] {
        let url = format!("{}{path}", system.bookapp.url);
        http().unwrap().get(url).send().await.unwrap();
    }
    stop_and_flush(&system).await;
    assert_eq!(sentry.events(), [Value::Null; 0]);
}

#[tokio::test]
async fn warnings_are_breadcrumbs_unless_configured_as_events() {
    for (warnings, expected) in [("false", 0), ("true", 1)] {
        let sentry = SentrySink::start().await.unwrap();
        let system =
            helpers::start_with(|spec| with_sentry(spec, &sentry).env("SENTRY_WARNINGS", warnings))
                .await;
        system.backend.process.signal(Signal::SIGKILL);
        system.backend.process.wait(SOON).await.unwrap();
        let url = format!("{}/books?limit=1", system.bookapp.url);
        assert_eq!(http().unwrap().get(url).send().await.unwrap().status(), 200);
        stop_and_flush(&system).await;
        let events = sentry.events();
        assert_eq!(events.len(), expected, "{events:?}");
        assert!(events.iter().all(|event| event["level"] == "warning"));
    }
}

#[tokio::test]
async fn breadcrumbs_of_one_request_are_in_no_other_s_event() {
    let sentry = SentrySink::start().await.unwrap();
    let system = start_without_database(&sentry).await;
    let get = async |id: &str| {
        let url = format!("{}/books/1", system.bookapp.url);
        let request = http().unwrap().get(url).header("x-request-id", id);
        request.send().await.unwrap();
    };
    // There are more requests than threads, so that some requests share a thread.
    tokio::join!(get("first"), get("second"));
    for id in ["third", "fourth", "fifth", "sixth"] {
        get(id).await;
    }
    let all = || async { (sentry.events().len() == 6).then(|| sentry.events()) };
    let events = eventually(SOON, "six events", all).await.unwrap();
    for event in events {
        let crumbs = event["breadcrumbs"].to_string();
        assert!(
            !crumbs.contains("listening"),
            "a breadcrumb of the start: {crumbs}"
        );
        assert!(
            !crumbs.contains("the request failed"),
            "a breadcrumb of another request: {crumbs}"
        );
    }
}

// proves: B22
#[tokio::test]
async fn without_a_dsn_there_is_nothing_and_a_wrong_one_is_one_line() {
    let system = helpers::start().await;
    let url = format!("{}/books/1", system.bookapp.url);
    let response = http().unwrap().get(url).send().await.unwrap();
    assert!(!response.headers().contains_key("x-sentry-event-id"));
    let spec = Spec::new("bookapp", helpers::binaries().await.bookapp());
    let process = Process::start(&spec.env("SENTRY_DSN", "s3cr3t")).unwrap();
    assert_eq!(process.wait(SOON).await.unwrap().code(), Some(2));
    assert_eq!(process.lines(), ["error: SENTRY_DSN is not a Sentry DSN"]);
}

#[tokio::test]
async fn a_sentry_that_is_down_or_silent_delays_no_request_and_the_loss_is_reported() {
    let (hole, _hole) = black_hole().await;
    for address in ["127.0.0.1:1", hole.trim_start_matches("http://")] {
        let dsn = format!("http://public@{address}/42");
        let system = start_with_warnings(&dsn).await;
        let started = Instant::now();
        list_often(&system, 150).await;
        assert!(started.elapsed() < SOON, "{address} delays requests");
        let lines = stop(&system).await;
        let lost = "telemetry: 150 of 150 Sentry events were not delivered";
        assert!(lines.contains(&lost.to_owned()), "{address}: {lines:?}");
        let full = undelivered(&system, "telemetry_common.sentry.event.processed");
        assert!(address == "127.0.0.1:1" || full >= 40.0, "{full} dropped");
    }
}

#[tokio::test]
async fn a_sentry_that_hangs_costs_one_event_and_those_that_exceed_the_queue() {
    let sentry = SentrySink::start_hanging().await.unwrap();
    let system = start_with_warnings(&sentry.dsn()).await;
    list_often(&system, 150).await;
    // While the first request hangs, the queue holds a hundred events.
    let arrived = || async { (sentry.events().len() >= 100).then_some(()) };
    eventually(SOON, "a hundred events", arrived).await.unwrap();
    let lines = stop(&system).await;
    let arrived = sentry.events().len();
    assert!(arrived < 150, "the first request never gets a response");
    let lost = format!(
        "telemetry: {} of 150 Sentry events were not delivered",
        150 - arrived
    );
    assert!(lines.contains(&lost), "{arrived} arrived: {lines:?}");
}

#[tokio::test]
async fn the_shutdown_waits_for_neither_collector_nor_sentry() {
    let (hole, _hole) = black_hole().await;
    let dsn = hole.replace("http://", "http://public@") + "/42";
    let with_sinks = |spec: Spec| {
        spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", hole.as_str())
            .env("SENTRY_DSN", dsn.as_str())
            .env("SENTRY_WARNINGS", "true")
    };
    let system = without_backend(helpers::start_with(with_sinks).await).await;
    list_often(&system, 5).await;
    let lines = stop(&system).await;
    let lost = "telemetry: 5 of 5 Sentry events were not delivered";
    assert!(lines.contains(&lost.to_owned()), "{lines:?}");
}

#[tokio::test]
async fn a_sentry_that_responds_429_receives_no_further_events() {
    let sentry = SentrySink::start_rate_limiting().await.unwrap();
    let system = start_with_warnings(&sentry.dsn()).await;
    list_often(&system, 5).await;
    let lines = stop(&system).await;
    assert_eq!(
        sentry.events().len(),
        1,
        "the first event is rejected, and no other is sent"
    );
    let lost = "telemetry: 5 of 5 Sentry events were not delivered";
    assert!(lines.contains(&lost.to_owned()), "{lines:?}");
    let rejected = undelivered(&system, "telemetry_common.sentry.event.exported");
    assert!((rejected - 5.0).abs() < 0.1, "{rejected}");
}

#[tokio::test]
async fn a_sentry_behind_tls_is_trusted_by_its_authority_alone() {
    let (sentry, authority) = SentrySink::start_tls().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let distrusting = start_with_warnings(&sentry.dsn()).await;
    list_often(&distrusting, 1).await;
    stop(&distrusting).await;
    assert!(sentry.envelopes().is_empty(), "not trusted");
    let trusting = helpers::start_with(|spec| {
        // rustls reads the system's certificate authorities from this file.
        with_sentry(spec, &sentry)
            .env("SENTRY_WARNINGS", "true")
            .env("SSL_CERT_FILE", file.to_str().unwrap())
    });
    let trusting = without_backend(trusting.await).await;
    list_often(&trusting, 1).await;
    only_event(&sentry).await;
}

/// Starts a system in which every list request creates a Sentry event, because the backend is down.
async fn start_with_warnings(dsn: &str) -> System {
    let with_warnings = |spec: Spec| spec.env("SENTRY_DSN", dsn).env("SENTRY_WARNINGS", "true");
    without_backend(helpers::start_with(with_warnings).await).await
}

async fn without_backend(system: System) -> System {
    system.backend.process.signal(Signal::SIGKILL);
    system.backend.process.wait(SOON).await.unwrap();
    system
}

async fn list_often(system: &System, times: usize) {
    let url = format!("{}/books?limit=1", system.bookapp.url);
    let client = http().unwrap();
    let list = async |_| {
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.status(), 200);
    };
    stream::iter(0..times).for_each_concurrent(8, list).await;
}

/// Stops bookapp within [`STOP`]. Returns its output lines.
async fn stop(system: &System) -> Vec<String> {
    system.bookapp.process.signal(Signal::SIGTERM);
    assert!(system.bookapp.process.wait(STOP).await.unwrap().success());
    system.bookapp.process.lines()
}

/// Returns how many events bookapp counts in `metric` with an `error.type`.
fn undelivered(system: &System, metric: &str) -> f64 {
    let points = system.sink.points();
    let counted = points.iter().filter(|point| {
        point.name == metric
            && point.service() == "bookapp"
            && point.attributes.contains_key("error.type")
    });
    counted.map(|point| point.value).fold(0.0, f64::max)
}

fn with_sentry(spec: Spec, sentry: &SentrySink) -> Spec {
    spec.env("SENTRY_DSN", sentry.dsn())
        .env("GRAFANA_URL", "https://grafana.example/")
}

/// Starts a system that sends events to this sink, and then kills its database.
async fn start_without_database(sentry: &SentrySink) -> System {
    let dependencies = Dependencies::start(None).await.unwrap();
    let binaries = helpers::binaries().await;
    let adjust = |spec: Spec| {
        // Ignore the warnings of the worker and the relay.
        with_sentry(spec, sentry).env("SENTRY_WARNINGS", "false")
    };
    let system = System::start_with(binaries, dependencies, adjust)
        .await
        .unwrap();
    system
        .postgres
        .as_ref()
        .unwrap()
        .stop(Signal::SIGKILL)
        .await
        .unwrap();
    system
}

async fn only_event(sentry: &SentrySink) -> Value {
    let arrived = || async { sentry.events().first().cloned() };
    let event = eventually(SOON, "the event", arrived).await.unwrap();
    assert_eq!(
        sentry.events().len(),
        1,
        "the logged error and the failed response are one event"
    );
    event
}

async fn stop_and_flush(system: &System) {
    system.bookapp.process.signal(Signal::SIGTERM);
    assert!(system.bookapp.process.wait(SOON).await.unwrap().success());
}
