//! Tests of `GET /books`: its queries and calls, and its response if the backend fails.

use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::{System, eventually, process::Signal, sink::Span, system::http, trace::Trace};

use crate::helpers::{self, SOON};

// proves: B2 B5 B6 B20 L21
#[tokio::test]
async fn listing_92_books_is_one_query_one_call_one_query() {
    let system = helpers::start().await;
    let (id, _) = list(&system).await;
    let trace = eventually(SOON, "both services export their spans", || async {
        let trace = Trace::of(&system.sink.spans(), &id);
        let server = |service| {
            trace
                .spans()
                .iter()
                .any(|span| span.kind == "SERVER" && span.service() == service)
        };
        (server("bookapp") && server("backend")).then_some(trace)
    })
    .await
    .unwrap();
    assert_eq!(
        trace.outline(),
        "GET /books SERVER\n  \
           SELECT books CLIENT\n  \
           POST /details/search CLIENT\n    \
             POST /details/search SERVER\n      \
               SELECT book_details CLIENT"
    );
    let ids: Vec<_> = trace
        .spans()
        .iter()
        .filter_map(|span| span.attributes.get("telemetry_common.request.id"))
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "the call propagates the request id");
    let rows = &trace.named("SELECT books").unwrap().attributes["db.response.returned_rows"];
    assert_eq!(rows, 92);
}

#[tokio::test]
async fn without_a_backend_the_list_goes_without_details() {
    let system = helpers::start().await;
    system.backend.process.signal(Signal::SIGKILL);
    system.backend.process.wait(SOON).await.unwrap();
    let id = list_without_details(&system).await;
    let call = call_to_backend(&system, &id).await;
    assert_eq!(call.status, "ERROR");
    assert_eq!(call.attributes["error.type"], "connect");
    assert_eq!(call.attributes.get("http.response.status_code"), None);

    let details = format!("{}/books/1/details", system.bookapp.url);
    let response = http().unwrap().get(details).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert!(response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn a_call_to_a_slow_backend_times_out() {
    let timeout = Duration::from_millis(1500);
    let system = helpers::start_with(|spec| spec.env("BACKEND_TIMEOUT", "1500ms")).await;
    // A stopped process still accepts the connection, but never responds.
    system.backend.process.signal(Signal::SIGSTOP);
    let started = Instant::now();
    let id = list_without_details(&system).await;
    let waited = started.elapsed();
    assert!(
        waited >= timeout,
        "the setting applies, not its default: {waited:?}"
    );
    let call = call_to_backend(&system, &id).await;
    assert_eq!(call.attributes["error.type"], "timeout");
    system.backend.process.signal(Signal::SIGCONT);
}

/// Lists the books and checks that none has details. Returns the trace id.
async fn list_without_details(system: &System) -> String {
    let (id, books) = list(system).await;
    assert!(books.iter().all(|book| book["details"].is_null()));
    id
}

/// Lists the books, all 92. Returns the trace id and the books.
async fn list(system: &System) -> (String, Vec<Value>) {
    let url = format!("{}/books", system.bookapp.url);
    let response = http().unwrap().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let traceparent = response.headers()["traceparent"].to_str().unwrap();
    let id = traceparent.split('-').nth(1).unwrap().to_owned();
    let books: Vec<Value> = response.json().await.unwrap();
    assert_eq!(books.len(), 92);
    (id, books)
}

async fn call_to_backend(system: &System, id: &str) -> Span {
    eventually(SOON, "the spans of the call arrive", || async {
        let trace = Trace::of(&system.sink.spans(), id);
        // The request itself succeeds.
        let server = trace.named("GET /books")?;
        assert_eq!(server.status, "UNSET");
        trace.named("POST /details/search").cloned()
    })
    .await
    .unwrap()
}
