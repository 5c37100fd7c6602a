//! Failures on purpose, set while the system runs, seen everywhere.

use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testbed::{System, eventually, process::Signal, sentry::SentrySink, sink::Span, system::http};

use crate::helpers::{self, SOON};

// proves: B17
#[tokio::test]
async fn an_error_on_purpose_is_seen_on_span_log_metric_and_sentry_event() {
    let (system, sentry) = start().await;
    let rule = json!({"endpoint_pattern": "/books/:id", "http_method": "get", "error_rate": 1,
        "error_code": 502, "error_message": "on purpose"});
    let stored: Value = rule_of(&system, &rule).await.json().await.unwrap();
    assert_eq!(stored["endpoint_pattern"], "/books/{id}", "in axum's words");
    let answer = failing(&system, "/books/1", 502).await;
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["detail"], "on purpose");
    let span = span(&system, "GET /books/{id}", "error").await;
    assert_eq!(span.status, "ERROR");
    assert_eq!(span.attributes["bookapp.fault.rule.id"], stored["id"]);
    let logged = || async {
        let logs = system.sink.logs().into_iter();
        let mut failures = logs.filter(|log| log.event == "http.server.request.exception");
        failures.find(|log| log.attributes["bookapp.fault.type"] == "error")
    };
    let log = eventually(SOON, "the log record", logged).await.unwrap();
    assert_eq!(log.trace_id, span.trace_id);
    let counted = || async {
        let points = system.sink.points();
        let counted = points.iter().find(|point| {
            point.name == "bookapp.faults.injected"
                && point.attributes["bookapp.fault.type"] == "error"
                && point.service() == "bookapp"
        });
        (counted?.value > 0.0).then_some(())
    };
    eventually(SOON, "the metric", counted).await.unwrap();
    let event = event(&sentry, 0).await;
    assert_eq!(event["tags"]["bookapp.fault.type"], "error");
    assert_eq!(event["tags"]["otel.trace_id"], *span.trace_id);

    // No other route, and no other method of this one.
    let list = format!("{}/books?limit=1", system.bookapp.url);
    assert_eq!(
        http().unwrap().get(list).send().await.unwrap().status(),
        200
    );
    let book = format!("{}/books/1", system.bookapp.url);
    let patch = http().unwrap().patch(book).json(&json!({}));
    assert_eq!(patch.send().await.unwrap().status(), 200);

    // Off by one call: what failed works again.
    let cleared = send(&system, Method::DELETE, "", None).await;
    assert_eq!(cleared.json::<u64>().await.unwrap(), 1);
    failing(&system, "/books/1", 200).await;
}

// proves: L36 N5
#[tokio::test]
async fn a_panic_on_purpose_is_a_500_and_one_event_in_its_span() {
    let (system, sentry) = start().await;
    let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "kind": "panic", "error_message": "over it goes"});
    rule_of(&system, &rule).await;
    let answer = failing(&system, "/books/1", 500).await;
    let id = answer.headers()["x-sentry-event-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let event = event(&sentry, 0).await;
    assert_eq!(sentry.events().len(), 1);
    assert_eq!(event["event_id"], id);
    let panicked = &event["exception"]["values"][0];
    assert_eq!(panicked["type"], "panic");
    assert_eq!(panicked["value"], "injected: over it goes");
    let place = &panicked["stacktrace"]["frames"][0];
    let file = place["filename"].as_str().unwrap();
    assert!(
        file.ends_with("crates/service-common/src/faults.rs"),
        "{file}"
    );
    let place = format!("{file}:{}", place["lineno"]);
    let group = event["fingerprint"].as_array().unwrap();
    assert!(group.contains(&json!(place)), "{group:?}");
    assert!(group.contains(&json!("bookapp")) && group.contains(&json!("GET /books/{id}")));
    let span = span(&system, "GET /books/{id}", "panic").await;
    assert_eq!(event["tags"]["otel.span_id"], *span.span_id);
    assert_eq!(span.attributes["sentry.event_id"], id);
}

#[tokio::test]
async fn latency_and_backend_s_failures_on_purpose() {
    let (system, _) = start().await;
    let slow = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "kind": "latency", "latency_ms": 300});
    rule_of(&system, &slow).await;
    let url = format!("{}/books/1", system.bookapp.url);
    let held_up = || async {
        let answer = http().unwrap().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "it takes longer, and that is all");
        struck(&system, "GET /books/{id}", "latency")
    };
    let span = eventually(SOON, "a request is held up", held_up)
        .await
        .unwrap();
    assert!(span.end - span.start >= 300_000_000, "{span:?}");
    let away = json!({"endpoint_pattern": "/details/{book_id}", "http_method": "GET",
        "error_rate": 1, "error_code": 500, "service": "backend"});
    rule_of(&system, &away).await;
    heard_by_backend(&system).await;
    failing(&system, "/books/1/details", 503).await;
}

// proves: N2
#[tokio::test]
async fn a_message_that_panics_is_tried_again_and_then_a_dead_letter() {
    let (system, sentry) = start().await;
    let rule = json!({"endpoint_pattern": BOOK_ADDED, "http_method": "PROCESS", "error_rate": 1,
        "kind": "panic", "service": "backend"});
    rule_of(&system, &rule).await;
    heard_by_backend(&system).await;
    let book = json!({"title": "Emma", "author": "Jane Austen"});
    let url = format!("{}/books/add", system.bookapp.url);
    http().unwrap().post(url).json(&book).send().await.unwrap();
    let kafka = system.mock_kafka().unwrap();
    kafka.messages(BOOK_ADDED_DEAD_LETTER, 1).await.unwrap();
    let last = event(&sentry, 2).await;
    assert_eq!(last["tags"]["messaging.destination.name"], BOOK_ADDED);
    system.backend.process.signal(Signal::SIGTERM);
    assert!(system.backend.process.exited(SOON).await.unwrap().success());
    let attempts = system.sink.spans().into_iter();
    let mut attempts = attempts.filter(|span| span.name == "process book.added.v1");
    // Each attempt is one event, which its span names, and the dead letter none beside them.
    for event in sentry.events() {
        assert_eq!(event["exception"]["values"][0]["type"], "panic");
        let attempt = attempts.next().unwrap();
        assert_eq!(attempt.attributes["sentry.event_id"], event["event_id"]);
    }
    assert!(attempts.next().is_none());
}

#[tokio::test]
async fn a_rule_is_stored_or_refused_and_never_forgotten() {
    let mut system = helpers::start().await;
    let good = json!({"endpoint_pattern": "/books", "http_method": "GET", "error_rate": 0.5,
        "error_code": 500});
    let stored: Value = rule_of(&system, &good).await.json().await.unwrap();
    assert_eq!(
        send(&system, Method::POST, "", Some(&good)).await.status(),
        409
    );
    for (field, value) in [
        ("endpoint_pattern", json!("books")),
        ("http_method", json!("BREW")),
        ("error_rate", json!(1.5)),
        ("error_code", json!(200)),
        ("service", json!("grafana")),
        ("latency_ms", json!(0)),
        ("kind", json!("flood")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let answer = send(&system, Method::POST, "", Some(&bad)).await;
        assert_eq!(answer.status(), 422, "{field}");
        let problem: Value = answer.json().await.unwrap();
        assert!(
            problem["detail"].as_str().unwrap().contains(field),
            "{problem}"
        );
    }
    let path = format!("/{}", stored["id"]);
    let mut changed = good.clone();
    changed["error_rate"] = json!(0.25);
    let answer = send(&system, Method::PUT, &path, Some(&changed)).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["error_rate"], 0.25);
    assert_eq!(
        send(&system, Method::PUT, "/4711", Some(&good))
            .await
            .status(),
        404
    );
    system.bookapp.process.signal(Signal::SIGKILL);
    system.bookapp.process.exited(SOON).await.unwrap();
    system.bookapp.start_again().await.unwrap();
    let rules: Vec<Value> = send(&system, Method::GET, "", None)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!((rules.len(), &rules[0]["error_rate"]), (1, &json!(0.25)));
    assert_eq!(
        send(&system, Method::DELETE, &path, None).await.status(),
        200
    );
    assert_eq!(
        send(&system, Method::DELETE, &path, None).await.status(),
        404
    );
}

#[tokio::test]
async fn without_the_admin_s_token_nobody_makes_anything_fail() {
    let system = helpers::start_with(|spec| spec.env("ADMIN_TOKEN", "s3cr3t")).await;
    let rule = json!({"endpoint_pattern": "/books", "http_method": "GET", "error_rate": 1,
        "error_code": 500});
    assert_eq!(
        send(&system, Method::POST, "", Some(&rule)).await.status(),
        401
    );
    assert_eq!(send(&system, Method::DELETE, "", None).await.status(), 401);
    assert_eq!(send(&system, Method::GET, "", None).await.status(), 200);
    let url = format!("{}/error-injection", system.bookapp.url);
    let allowed = http().unwrap().post(url).bearer_auth("s3cr3t").json(&rule);
    assert_eq!(allowed.send().await.unwrap().status(), 200);
}

async fn start() -> (System, SentrySink) {
    let sentry = SentrySink::start().await.unwrap();
    let system = helpers::start_with(|spec| spec.env("SENTRY_DSN", sentry.dsn())).await;
    (system, sentry)
}

/// Stores a rule.
async fn rule_of(system: &System, rule: &Value) -> Response {
    let answer = send(system, Method::POST, "", Some(rule)).await;
    answer.error_for_status().unwrap()
}

async fn send(system: &System, method: Method, path: &str, body: Option<&Value>) -> Response {
    let url = format!("{}/error-injection{path}", system.bookapp.url);
    let request = http().unwrap().request(method, url);
    let request = body
        .into_iter()
        .fold(request, reqwest::RequestBuilder::json);
    request.send().await.unwrap()
}

/// Waits until backend knows the rules.
async fn heard_by_backend(system: &System) {
    let told = || async {
        let logs = system.sink.logs();
        let mut logs = logs.iter().filter(|log| log.service() == "backend");
        logs.any(|log| log.event == "bookapp.faults.changed")
            .then_some(())
    };
    eventually(SOON, "backend hears of it", told).await.unwrap();
}

/// Gets a path until it is answered so: a rule is told to every instance in a moment.
async fn failing(system: &System, path: &str, status: u16) -> Response {
    let url = format!("{}{path}", system.bookapp.url);
    let answered = || async {
        let answer = http().unwrap().get(&url).send().await.unwrap();
        (answer.status() == status).then_some(answer)
    };
    eventually(SOON, path, answered).await.unwrap()
}

/// The first span of this name that a rule of this kind has struck, once it is there.
async fn span(system: &System, name: &str, fault: &str) -> Span {
    let arrived = || async { struck(system, name, fault) };
    eventually(SOON, name, arrived).await.unwrap()
}

fn struck(system: &System, name: &str, fault: &str) -> Option<Span> {
    let mut spans = system
        .sink
        .spans()
        .into_iter()
        .filter(|span| span.name == name);
    spans.find(|span| span.attributes.get("bookapp.fault.type") == Some(&json!(fault)))
}

async fn event(sentry: &SentrySink, number: usize) -> Value {
    let arrived = || async { sentry.events().get(number).cloned() };
    eventually(SOON, "the event", arrived).await.unwrap()
}
