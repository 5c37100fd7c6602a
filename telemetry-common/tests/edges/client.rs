//! The client span: propagation, types, failures, and what must not be in it.

use std::time::Duration;

use axum::{Router, http::HeaderMap, routing::get};
use reqwest_middleware::RequestBuilder;
use telemetry_common::{
    http::client::UrlTemplate,
    opentelemetry::{
        KeyValue, Value,
        trace::{SpanKind, Status},
    },
    semconv,
    testing::{self, attribute},
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::helpers::{Shop, client, client_with};

// proves: B7 R7
#[tokio::test]
async fn the_span_s_context_arrives_and_its_numbers_are_numbers() {
    testing::install();
    // Answers with the header it got.
    let echo = Router::new().route(
        "/echo",
        get(
            |headers: HeaderMap| async move { headers["traceparent"].to_str().unwrap().to_owned() },
        ),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async { axum::serve(listener, echo).await.unwrap() });

    let (arrived, spans) = testing::spans_of(async {
        let url = format!("http://ada:lovelace@127.0.0.1:{port}/echo");
        named(client().get(url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    })
    .await;
    let span = spans.named("GET /echo");
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.status, Status::Unset);
    let context = &span.span_context;
    assert_eq!(
        arrived,
        format!("00-{}-{}-01", context.trace_id(), context.span_id())
    );
    assert_eq!(
        attribute(span, semconv::HTTP_RESPONSE_STATUS_CODE),
        Some(&Value::I64(200))
    );
    assert_eq!(
        attribute(span, semconv::SERVER_PORT),
        Some(&Value::I64(port.into()))
    );
    assert_eq!(
        attribute(span, semconv::URL_TEMPLATE),
        Some(&"/echo".into())
    );
    let url = format!("http://127.0.0.1:{port}/echo");
    assert_eq!(
        attribute(span, semconv::URL_FULL),
        Some(&url.into()),
        "without credentials"
    );
}

#[tokio::test]
async fn what_goes_wrong_is_named() {
    let shop = Shop::open().await;
    let hurried = client_with(Duration::from_millis(300));
    for (client, url, error_type) in [
        (client(), format!("{}/nowhere", shop.url), "404"),
        (client(), format!("{}/shelf/broken", shop.url), "500"),
        (hurried, format!("{}/shelf/never", shop.url), "timeout"),
        (client(), "http://127.0.0.1:1/".to_owned(), "connect"),
    ] {
        let (_, spans) = testing::spans_of(named(client.get(&url)).send()).await;
        let span = spans.named("GET /echo");
        assert_eq!(
            attribute(span, semconv::ERROR_TYPE),
            Some(&error_type.into()),
            "{url}"
        );
        assert!(matches!(span.status, Status::Error { .. }), "{url}");
    }
}

#[tokio::test]
async fn a_call_given_up_says_so_and_is_no_error() {
    let shop = Shop::open().await;
    let port = shop.url.rsplit(':').next().unwrap().parse::<i64>().unwrap();
    let url = format!("{}/shelf/never", shop.url);
    let ((), spans) = testing::spans_of(async {
        let answer = named(client().get(url)).send();
        let gone = tokio::time::timeout(Duration::from_millis(200), answer).await;
        assert!(gone.is_err(), "nobody answers");
    })
    .await;
    let span = spans.named("GET /echo");
    assert_eq!(attribute(span, semconv::CANCELLED), Some(&true.into()));
    assert_eq!(span.status, Status::Unset);
    let ours = KeyValue::new(semconv::SERVER_PORT, port);
    assert!(
        testing::sum(semconv::HTTP_CLIENT_REQUEST_DURATION, &ours) >= 0.2,
        "it is measured"
    );
}

/// The template of the path, as a generated client would give it.
fn named(request: RequestBuilder) -> RequestBuilder {
    request.with_extension(UrlTemplate("/echo"))
}
