//! Tests of what a caller's headers may say: the address of a client, sampling and baggage.

use opentelemetry::TraceId;
use serde_json::json;
use telemetry_common::testing::{Spans, attribute};

use crate::helpers::spawn_app_with;

#[tokio::test]
async fn the_header_of_a_proxy_counts_only_as_far_as_it_is_trusted() {
    for (setting, expected) in [
        ("--trusted-hops=0", "127.0.0.1"),
        ("--trusted-hops=1", "198.51.100.7"),
    ] {
        let app = spawn_app_with(&[setting]).await;
        let url = format!("{}/books/1", app.url);
        // The first address was sent by the client, the second one was appended by the proxy.
        let forwarded = "203.0.113.9, 198.51.100.7";
        let client = reqwest::Client::builder().build().unwrap();
        let request = client.get(&url).header("x-forwarded-for", forwarded);
        let response = request.send().await.unwrap();
        let trace = response.headers()["traceparent"].to_str().unwrap();
        let trace = TraceId::from_hex(trace.split('-').nth(1).unwrap()).unwrap();
        response.bytes().await.unwrap();
        app.finish().await;
        let spans = Spans::of(trace);
        let server = spans.named("GET /books/{id}");
        assert_eq!(attribute(server, "client.address"), Some(&expected.into()));
    }
}

#[tokio::test]
async fn a_caller_that_is_not_trusted_hides_no_request_and_stores_no_baggage() {
    for is_trusted in [true, false] {
        let app = spawn_app_with(&[&format!("--trusted-callers={is_trusted}")]).await;
        let client = reqwest::Client::builder().build().unwrap();
        let request = client
            .post(format!("{}/books/add", app.url))
            .header(
                "traceparent",
                format!("00-{}-00f067aa0ba902b7-00", "4b".repeat(16)),
            )
            .header("baggage", "note=from-anyone")
            .json(&json!({"title": "Emma", "author": "Jane Austen"}));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 201);
        let trace = response.headers()["traceparent"].to_str().unwrap();
        let flags = if is_trusted { "-00" } else { "-01" };
        assert!(trace.ends_with(flags), "{trace}");
        let with_baggage = "outbox where headers::text like '%from-anyone%'";
        assert_eq!(app.count(with_baggage).await == 1, is_trusted);
        app.finish().await;
    }
}
