//! Tests of what is no telemetry: a clear error, and the viewer goes on.

use std::io::Write;

use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use otlp_viewer::MAX_BODY;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::net::TcpStream;

use crate::helpers::{PROTOBUF, TestViewer, attribute, linked, span, start, traces};

#[tokio::test]
async fn an_invalid_request_gets_a_clear_error() {
    let viewer = start().await;
    for (path, kind, body, status, expected) in [
        ("/v1/traces", PROTOBUF, "junk", 400, "no OTLP protobuf"),
        (
            "/v1/logs",
            "application/json",
            "{",
            400,
            "no OTLP JSON: EOF",
        ),
        (
            "/v1/metrics",
            "text/plain",
            "x",
            415,
            "application/x-protobuf",
        ),
        ("/v1/profiles", PROTOBUF, "x", 404, ""),
    ] {
        let response = viewer.post(path, kind, body).await;
        assert_eq!(response.status(), status, "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains(expected), "{path}: {text}");
    }
    for path in [
        "traces/xyz",
        "traces?status=maybe",
        "logs?trace=1",
        "traces?min_ms=x",
    ] {
        let url = format!("{}/data/{path}", viewer.viewer.url());
        let response = viewer.http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 400, "{path}");
        assert!(!response.text().await.unwrap().is_empty(), "{path}");
    }
    is_alive(&viewer).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_rejected_compressed_or_not_over_http_and_grpc() {
    let viewer = start().await;
    let large = vec![0; 64 << 20];
    let response = viewer.post("/v1/traces", PROTOBUF, large.clone()).await;
    assert_eq!(response.status(), 413);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&large).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < MAX_BODY / 100);
    for path in ["/v1/traces", "/api/1/envelope/"] {
        let request = viewer.http.post(format!("{}{path}", viewer.viewer.url()));
        let request = request
            .header(CONTENT_TYPE, PROTOBUF)
            .header(CONTENT_ENCODING, "gzip");
        let response = request.body(bomb.clone()).send().await.unwrap();
        assert_eq!(response.status(), 413, "{path}");
    }
    let mut huge = span(1, 1, "huge");
    huge.attributes
        .push(attribute("text", &"x".repeat(MAX_BODY)));
    let client = TraceServiceClient::connect(viewer.viewer.url()).await;
    let rejected = client.unwrap().export(traces("bookapp", &[huge])).await;
    assert_eq!(rejected.unwrap_err().code(), tonic::Code::OutOfRange);
    is_alive(&viewer).await;
}

#[tokio::test]
async fn random_changes_of_a_message_do_no_harm() {
    let viewer = start().await;
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    let mut valid = linked(span(1, 1, "valid"), 2, 2);
    valid.attributes.push(attribute("http.route", "/books"));
    let valid = traces("bookapp", &[valid]).encode_to_vec();
    for _ in 0..500 {
        let mut body = valid.clone();
        for _ in 0..random.usize(1..8) {
            let place = random.usize(..body.len());
            body[place] = random.u8(..);
        }
        body.truncate(random.usize(..=body.len()));
        let path = ["/v1/traces", "/v1/logs", "/v1/metrics"][random.usize(..3)];
        let status = viewer.post(path, PROTOBUF, body).await.status();
        assert!(status == 200 || status == 400, "seed {seed}: {status}");
    }
    viewer.data("traces?text=valid").await;
    viewer.data("logs").await;
    viewer.data("metrics").await;
    is_alive(&viewer).await;
}

#[tokio::test]
async fn a_thousand_idle_connections_do_not_keep_others_away() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let viewer = start().await;
    let address = viewer.viewer.url();
    let address = address.trim_start_matches("http://");
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    is_alive(&viewer).await;
    drop(idle);
    is_alive(&viewer).await;
}

/// A span that is its own parent, and two that are each other's.
#[tokio::test]
async fn circles_of_parents_and_links_end() {
    let viewer = start().await;
    let mut own = linked(span(1, 1, "own"), 1, 1);
    own.parent_span_id = vec![1; 8];
    let (mut one, mut other) = (linked(span(2, 1, "one"), 1, 1), span(2, 2, "other"));
    one.parent_span_id = vec![2; 8];
    other.parent_span_id = vec![1; 8];
    viewer.spans("bookapp", &[own, one, other]).await;
    assert_eq!(viewer.names("").await, ["one", "own"]);
    let traces = viewer.data(&format!("traces/{}", "01".repeat(16))).await;
    assert_eq!(traces.as_array().unwrap().len(), 2);
}

async fn is_alive(viewer: &TestViewer) {
    viewer.spans("bookapp", &[span(9, 9, "alive")]).await;
    assert_eq!(viewer.names("text=alive").await, ["alive"]);
}
