//! Tests of the address of a client behind a proxy.

use opentelemetry::TraceId;
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
