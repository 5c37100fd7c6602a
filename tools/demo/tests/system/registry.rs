//! Tests that both services emit exactly the telemetry that
//! `crates/telemetry-registry/registry/` declares.

use std::time::Duration;

use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER, BookEvent};
use futures::future::join_all;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use telemetry_registry::Judge;
use testbed::{
    System, eventually,
    postgres::{Session, execute},
    process::{Signal, Spec},
    sentry::SentrySink,
    system::{Dependencies, http},
};

use crate::helpers::{self, SOON};

const TIMEOUT: Duration = Duration::from_mins(2);

// proves: B15 B31 R2 R8 R10 N9 L31
#[tokio::test]
async fn what_is_emitted_is_declared_and_what_is_declared_is_emitted() {
    let dependencies = Dependencies::start(None).await.unwrap();
    let sentry = SentrySink::start().await.unwrap();
    let with_sentry = |spec: Spec| {
        let resource = "service.namespace=bookapp,deployment.environment.name=test";
        spec.env("SENTRY_DSN", sentry.dsn())
            .env("OTEL_RESOURCE_ATTRIBUTES", resource)
            .env("DATABASE_MAX_CONNECTIONS", "3")
    };
    let binaries = helpers::binaries().await;
    let started = System::start_with(binaries, dependencies, with_sentry).await;
    let mut system = started.unwrap();
    requests(&system).await;
    rejected_call(&system).await;
    injected_panic(&system).await;
    messages(&system).await;
    outages(&mut system).await;
    for service in [&system.bookapp, &system.backend] {
        service.process.signal(Signal::SIGTERM);
        assert!(service.process.wait(SOON).await.unwrap().success());
    }
    let mut judge = Judge::new().unwrap();
    judge.judge(&system.sink, &["bookapp", "backend"]);
    if let Err(problems) = judge.finish() {
        panic!("{problems}");
    }
}

/// Sends each kind of API request, valid and invalid.
async fn requests(system: &System) {
    let emma = json!({"title": "Emma", "author": "Jane Austen"});
    let two = json!([emma, emma]);
    let title = json!({"title": "Persuasion"});
    let invalid = json!({"title": 7});
    let brew = Method::from_bytes(b"BREW").unwrap();
    for (method, path, body, status) in [
        (Method::POST, "/books/add", Some(&emma), 201),
        (Method::POST, "/books/bulk_add", Some(&two), 201),
        (Method::GET, "/", None, 200),
        (Method::GET, "/books?limit=5", None, 200),
        (Method::GET, "/books/1", None, 200),
        (Method::PATCH, "/books/1", Some(&title), 200),
        (Method::DELETE, "/books/2", None, 200),
        (Method::GET, "/books/2", None, 404),
        (Method::GET, "/nowhere", None, 404),
        (Method::POST, "/books/add", Some(&invalid), 422),
        (brew, "/books", None, 405),
    ] {
        call(system, method, path, body, status).await;
    }
    let filter = format!("{}/log-filter", system.bookapp.admin_url);
    let changed = http().unwrap().put(filter).body("warn").send().await;
    changed.unwrap().error_for_status().unwrap();
    // The client closes the connection while its request waits for a lock. Its timeout is shorter
    // than PostgreSQL's lock timeout of 2 s.
    let lock = Session::open(&system.database_url, "begin; lock table books");
    let lock = lock.await.unwrap();
    let request = http()
        .unwrap()
        .get(format!("{}/books/1", system.bookapp.url));
    let result = request.timeout(Duration::from_millis(1500)).send().await;
    assert!(result.unwrap_err().is_timeout());
    // PostgreSQL's lock timeout ends the next one.
    call(system, Method::GET, "/books/1", None, 503).await;
    // The relay has one of three connections. Two requests at a time wait 2 s for the lock, so the
    // pool's time limit of 3 s ends the last ones.
    let requests = (0..8).map(|_| call(system, Method::GET, "/books/1", None, 503));
    join_all(requests).await;
    let starved = || async {
        let spans = system.sink.spans();
        let mut errors = spans
            .iter()
            .filter_map(|span| span.attributes.get("error.type"));
        errors.any(|error| error == "pool_timeout").then_some(())
    };
    eventually(SOON, "a span without connection", starved)
        .await
        .unwrap();
    drop(lock);
}

/// Lets the worker's API respond with an error to bookapp.
async fn rejected_call(system: &System) {
    let rule = json!({"service": "backend", "endpoint_pattern": "/details/search", "http_method": "POST",
        "error_rate": 1, "error_code": 500});
    call(system, Method::POST, "/error-injection", Some(&rule), 200).await;
    let rejected = || async {
        call(system, Method::GET, "/books?limit=5", None, 200).await;
        let logs = system.sink.logs();
        let mut logs = logs.iter();
        logs.find(|log| log.event == "telemetry_common.http.client.rejected")
            .map(|_| ())
    };
    eventually(SOON, "the call is rejected", rejected)
        .await
        .unwrap();
    call(system, Method::DELETE, "/error-injection", None, 200).await;
}

/// Injects a panic.
async fn injected_panic(system: &System) {
    let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "kind": "panic"});
    call(system, Method::POST, "/error-injection", Some(&rule), 200).await;
    let url = format!("{}/books/1", system.bookapp.url);
    let panicked = || async {
        let response = http().unwrap().get(&url).send().await.unwrap();
        (response.status() == StatusCode::INTERNAL_SERVER_ERROR).then_some(())
    };
    eventually(SOON, "the panic", panicked).await.unwrap();
    call(system, Method::DELETE, "/error-injection", None, 200).await;
    let succeeded = || async {
        let response = http().unwrap().get(&url).send().await.unwrap();
        response.status().is_success().then_some(())
    };
    eventually(SOON, "the rule is deleted", succeeded)
        .await
        .unwrap();
}

/// Sends a valid message, a duplicate, a message for a deleted book, an undecodable one and one
/// without a value.
async fn messages(system: &System) {
    let event = BookEvent::added(1, "req-1".to_owned());
    let event = serde_json::to_vec(&event).unwrap();
    let deleted = serde_json::to_vec(&BookEvent::added(2, "req-2".to_owned())).unwrap();
    for value in [&event, &event, &deleted, &b"poison".to_vec()] {
        send(system, Some(value)).await;
    }
    send(system, None).await;
    let kafka = system.mock_kafka().unwrap();
    kafka.messages(BOOK_EVENTS_DEAD_LETTER, 2).await.unwrap();
}

/// Stops Kafka, the database and the backend, one after the other.
async fn outages(system: &mut System) {
    let emma = json!({"title": "Emma", "author": "Jane Austen"});
    let kafka = system.mock_kafka().unwrap();
    kafka.stop_broker(1).unwrap();
    call(system, Method::POST, "/books/add", Some(&emma), 201).await;
    wait_for_event(system, "bookapp.outbox.messages.wait").await;
    wait_for_event(system, "telemetry_common.kafka.failed").await;
    kafka.restart_broker(1).unwrap();

    execute(
        &system.database_url,
        "alter table book_details add check (book_id <> 9) not valid",
    )
    .await
    .unwrap();
    let postgres = system.postgres.as_mut().unwrap();
    postgres.stop(Signal::SIGKILL).await.unwrap();
    // The first message waits. Then the others are processed together, which fails.
    for book in [3, 8, 9, 10] {
        let event = BookEvent::added(book, format!("req-{book}"));
        send(system, Some(&serde_json::to_vec(&event).unwrap())).await;
    }
    wait_for_event(system, "bookapp.message.retry").await;
    wait_for_event(system, "bookapp.outbox.relay.failed").await;
    wait_for_event(system, "bookapp.faults.unknown").await;
    call(system, Method::GET, "/books/1", None, 503).await;
    system.postgres.as_mut().unwrap().restart().await.unwrap();
    system.bookapp.wait_until_ready().await.unwrap();
    wait_for_event(system, "bookapp.batch.failed").await;

    system.backend.process.signal(Signal::SIGTERM);
    assert!(system.backend.process.wait(SOON).await.unwrap().success());
    call(system, Method::GET, "/books?limit=5", None, 200).await;
    system.backend.restart().await.unwrap();
    system.backend.wait_until_ready().await.unwrap();
}

async fn call(system: &System, method: Method, path: &str, body: Option<&Value>, status: u16) {
    let url = format!("{}{path}", system.bookapp.url);
    let request = http().unwrap().request(method, url);
    let request = request.header("user-agent", "registry-test");
    let request = body.into_iter().fold(request, RequestBuilder::json);
    let response = request.send().await.unwrap();
    assert_eq!(
        response.status(),
        StatusCode::from_u16(status).unwrap(),
        "{path}"
    );
}

async fn send(system: &System, value: Option<&[u8]>) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &system.kafka_servers)
        .create()
        .unwrap();
    let mut record = FutureRecord::to(BOOK_EVENTS).key("1");
    record.payload = value;
    producer.send(record, SOON).await.unwrap();
}

async fn wait_for_event(system: &System, event: &str) {
    let found = || async {
        let logs = system.sink.logs();
        logs.iter().any(|log| log.event == event).then_some(())
    };
    eventually(TIMEOUT, event, found).await.unwrap();
}
