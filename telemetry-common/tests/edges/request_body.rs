//! Tests of request bodies: complete, slow, and those that stop half-way.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    middleware::{Next, from_fn},
    routing::post,
};
use opentelemetry::trace::Status;
use telemetry_common::{
    semconv,
    testing::{self, Spans, attribute},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};

use crate::helpers::{SLOW, duration, has_series, pair, serve};

#[tokio::test]
async fn a_request_body_that_stops_half_way_is_distinguished_from_a_slow_one() {
    let mut tasks = JoinSet::new();
    let (arrive, mut arrived) = mpsc::unbounded_channel();
    let router = Router::new()
        .route(
            "/upload/half",
            post(async |body: Bytes| body.len().to_string()),
        )
        .route(
            "/upload/slow",
            post(async |body: Bytes| body.len().to_string()),
        )
        .layer(from_fn(move |request: Request, next: Next| {
            arrive.send(()).unwrap();
            next.run(request)
        }));
    let address = serve(router, &mut tasks).await;

    let (mut half, spans) = upload(address, "/upload/half").await;
    half.shutdown().await.unwrap();
    let spans = spans.wait_for("POST /upload/half").await;
    let span = spans.named("POST /upload/half");
    let error_type = attribute(span, semconv::ERROR_TYPE);
    assert_eq!(error_type, Some(&"request_body".into()));
    assert!(has_series("/upload/half", Some("request_body")));
    let size = semconv::HTTP_SERVER_REQUEST_BODY_SIZE;
    let size = testing::sum(size, &pair("/upload/half".into()));
    assert!(
        (size - 5.0).abs() < f64::EPSILON,
        "{size}: not as announced"
    );

    arrived.recv().await.unwrap();
    let (mut slow, spans) = upload(address, "/upload/slow").await;
    arrived.recv().await.unwrap();
    sleep(SLOW).await;
    slow.write_all(b"world").await.unwrap();
    let mut response = [0; 12];
    slow.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 200");
    let spans = spans.wait_for("POST /upload/slow").await;
    let span = spans.named("POST /upload/slow");
    assert!(duration(span) >= SLOW);
    assert_eq!(attribute(span, semconv::ERROR_TYPE), None);
    assert_eq!(span.status, Status::Unset);
    assert!(has_series("/upload/slow", None));
    let size = semconv::HTTP_SERVER_REQUEST_BODY_SIZE;
    let size = testing::sum(size, &pair("/upload/slow".into()));
    assert!((size - 10.0).abs() < f64::EPSILON, "{size}");
}

/// Starts an upload of 10 bytes and sends five of them.
async fn upload(address: SocketAddr, path: &str) -> (TcpStream, Spans) {
    let (stream, spans) = testing::spans_of(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let traceparent = telemetry_common::traceparent().unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ntraceparent: {traceparent}\r\n\
             content-length: 10\r\n\r\nhello"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    })
    .await;
    (stream, spans)
}
