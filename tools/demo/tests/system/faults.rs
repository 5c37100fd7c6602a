//! Tests of fault injection at run time, and of its telemetry in every signal.

use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testbed::{System, eventually, process::Signal, sentry::SentrySink, sink::Span, system::http};

use crate::helpers::{self, SOON};

// proves: B17
#[tokio::test]
async fn an_injected_error_is_on_span_log_metric_and_sentry_event() {
    let (system, sentry) = start().await;
    let rule = json!({"endpoint_pattern": "/books/:id", "http_method": "get", "error_rate": 1,
        "error_code": 502, "error_message": "injected by a test"});
    let stored: Value = store_rule(&system, &rule).await.json().await.unwrap();
    assert_eq!(
        stored["endpoint_pattern"], "/books/{id}",
        "normalized to axum's syntax"
    );
    let response = wait_for_status(&system, "/books/1", 502).await;
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["detail"], "injected by a test");
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

    // The rule does not match other routes or other methods of this route.
    let list = format!("{}/books?limit=1", system.bookapp.url);
    assert_eq!(
        http().unwrap().get(list).send().await.unwrap().status(),
        200
    );
    let book = format!("{}/books/1", system.bookapp.url);
    let patch = http().unwrap().patch(book).json(&json!({}));
    assert_eq!(patch.send().await.unwrap().status(), 200);

    // One call deletes all rules: the failing route works again.
    let cleared = send(&system, Method::DELETE, "", None).await;
    assert_eq!(cleared.json::<u64>().await.unwrap(), 1);
    wait_for_status(&system, "/books/1", 200).await;
}

// proves: L36 N5
#[tokio::test]
async fn an_injected_panic_is_a_500_and_one_event_in_its_span() {
    let (system, sentry) = start().await;
    let rule = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "kind": "panic", "error_message": "over it goes"});
    store_rule(&system, &rule).await;
    let response = wait_for_status(&system, "/books/1", 500).await;
    let id = response.headers()["x-sentry-event-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let event = event(&sentry, 0).await;
    assert_eq!(sentry.events().len(), 1);
    assert_eq!(event["event_id"], id);
    let exception = &event["exception"]["values"][0];
    assert_eq!(exception["type"], "panic");
    assert_eq!(exception["value"], "injected: over it goes");
    let frame = &exception["stacktrace"]["frames"][0];
    let file = frame["filename"].as_str().unwrap();
    assert!(
        file.ends_with("crates/service-common/src/fault_injection.rs"),
        "{file}"
    );
    let location = format!("{file}:{}", frame["lineno"]);
    let fingerprint = event["fingerprint"].as_array().unwrap();
    assert!(fingerprint.contains(&json!(location)), "{fingerprint:?}");
    assert!(fingerprint.contains(&json!("bookapp")));
    assert!(fingerprint.contains(&json!("GET /books/{id}")));
    let span = span(&system, "GET /books/{id}", "panic").await;
    assert_eq!(event["tags"]["otel.span_id"], *span.span_id);
    assert_eq!(span.attributes["sentry.event_id"], id);
}

#[tokio::test]
async fn injected_latency_and_backend_failures() {
    let (system, _) = start().await;
    let slow = json!({"endpoint_pattern": "/books/{id}", "http_method": "GET", "error_rate": 1,
        "kind": "latency", "latency_ms": 300});
    store_rule(&system, &slow).await;
    let url = format!("{}/books/1", system.bookapp.url);
    let delayed = || async {
        let response = http().unwrap().get(&url).send().await.unwrap();
        assert_eq!(
            response.status(),
            200,
            "latency does not change the response"
        );
        injected(&system, "GET /books/{id}", "latency")
    };
    let span = eventually(SOON, "a request is delayed", delayed)
        .await
        .unwrap();
    assert!(span.end - span.start >= 300_000_000, "{span:?}");
    let failing = json!({"endpoint_pattern": "/details/{book_id}", "http_method": "GET",
        "error_rate": 1, "error_code": 500, "service": "backend"});
    store_rule(&system, &failing).await;
    wait_until_backend_has_the_rules(&system).await;
    wait_for_status(&system, "/books/1/details", 503).await;
}

// proves: N2
#[tokio::test]
async fn a_message_that_panics_is_retried_and_then_dead_lettered() {
    let (system, sentry) = start().await;
    let rule = json!({"endpoint_pattern": BOOK_EVENTS, "http_method": "PROCESS", "error_rate": 1,
        "kind": "panic", "service": "backend"});
    store_rule(&system, &rule).await;
    wait_until_backend_has_the_rules(&system).await;
    let book = json!({"title": "Emma", "author": "Jane Austen"});
    let url = format!("{}/books/add", system.bookapp.url);
    http().unwrap().post(url).json(&book).send().await.unwrap();
    let kafka = system.mock_kafka().unwrap();
    kafka.messages(BOOK_EVENTS_DEAD_LETTER, 1).await.unwrap();
    let last = event(&sentry, 2).await;
    assert_eq!(last["tags"]["messaging.destination.name"], BOOK_EVENTS);
    system.backend.process.signal(Signal::SIGTERM);
    assert!(system.backend.process.wait(SOON).await.unwrap().success());
    let attempts = system.sink.spans().into_iter();
    let mut attempts = attempts.filter(|span| span.name == "process book.events.v1");
    // Each attempt creates one event, whose id is on its span. The dead letter creates no further
    // event.
    for event in sentry.events() {
        assert_eq!(event["exception"]["values"][0]["type"], "panic");
        let attempt = attempts.next().unwrap();
        assert_eq!(attempt.attributes["sentry.event_id"], event["event_id"]);
    }
    assert!(attempts.next().is_none());
}

#[tokio::test]
async fn a_rule_is_stored_or_rejected_and_never_lost() {
    let mut system = helpers::start().await;
    let good = json!({"endpoint_pattern": "/books", "http_method": "GET", "error_rate": 0.5,
        "error_code": 500});
    let stored: Value = store_rule(&system, &good).await.json().await.unwrap();
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
        let response = send(&system, Method::POST, "", Some(&bad)).await;
        assert_eq!(response.status(), 422, "{field}");
        let problem: Value = response.json().await.unwrap();
        assert!(
            problem["detail"].as_str().unwrap().contains(field),
            "{problem}"
        );
    }
    let path = format!("/{}", stored["id"]);
    let mut changed = good.clone();
    changed["error_rate"] = json!(0.25);
    let response = send(&system, Method::PUT, &path, Some(&changed)).await;
    assert_eq!(response.json::<Value>().await.unwrap()["error_rate"], 0.25);
    assert_eq!(
        send(&system, Method::PUT, "/4711", Some(&good))
            .await
            .status(),
        404
    );
    system.bookapp.process.signal(Signal::SIGKILL);
    system.bookapp.process.wait(SOON).await.unwrap();
    system.bookapp.restart().await.unwrap();
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
async fn without_the_admin_token_nothing_can_be_injected() {
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

/// Stores a fault injection rule.
async fn store_rule(system: &System, rule: &Value) -> Response {
    let response = send(system, Method::POST, "", Some(rule)).await;
    response.error_for_status().unwrap()
}

async fn send(system: &System, method: Method, path: &str, body: Option<&Value>) -> Response {
    let url = format!("{}/error-injection{path}", system.bookapp.url);
    let request = http().unwrap().request(method, url);
    let request = body
        .into_iter()
        .fold(request, reqwest::RequestBuilder::json);
    request.send().await.unwrap()
}

/// Waits until backend has loaded the changed rules.
async fn wait_until_backend_has_the_rules(system: &System) {
    let changed = || async {
        let logs = system.sink.logs();
        let mut logs = logs.iter().filter(|log| log.service() == "backend");
        logs.any(|log| log.event == "bookapp.faults.changed")
            .then_some(())
    };
    eventually(SOON, "backend loads the rules", changed)
        .await
        .unwrap();
}

/// Requests a path until the response has this status, because an instance applies a changed rule
/// after a short delay.
async fn wait_for_status(system: &System, path: &str, status: u16) -> Response {
    let url = format!("{}{path}", system.bookapp.url);
    let responded = || async {
        let response = http().unwrap().get(&url).send().await.unwrap();
        (response.status() == status).then_some(response)
    };
    eventually(SOON, path, responded).await.unwrap()
}

/// Waits for the first span with this name and this injected fault.
async fn span(system: &System, name: &str, fault: &str) -> Span {
    let arrived = || async { injected(system, name, fault) };
    eventually(SOON, name, arrived).await.unwrap()
}

fn injected(system: &System, name: &str, fault: &str) -> Option<Span> {
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
