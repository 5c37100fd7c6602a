//! Tests of the server span, the server metrics, the access log and the response headers.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{Router, body::Body, extract::Request, routing::get};
use futures::FutureExt;
use opentelemetry::{
    Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::{
    metrics::data::{AggregatedMetrics, MetricData},
    trace::SpanData,
};
use reqwest::Method;
use telemetry_common::{
    http::server,
    semconv,
    testing::{self, Spans, attribute},
};
use tower::ServiceExt;

use crate::helpers::{Shop, client, client_with, server_logs};

// proves: B4 L31
#[tokio::test]
async fn a_request_is_a_span_named_by_method_and_route() {
    let shop = Shop::open().await;
    let (response, spans) = testing::spans_of(async {
        client()
            .get(format!("{}/shelf/7?colour=red", shop.url))
            .send()
            .await
            .unwrap()
    })
    .await;
    // The client's span ends with the response.
    assert_eq!(spans.names(), ["GET /shelf/{id}", "test"]);
    let span = server_span(&spans);
    assert_eq!(span.status, Status::Unset);
    let text = |key| attribute(span, key).map(Value::as_str);
    assert_eq!(text(semconv::HTTP_REQUEST_METHOD).as_deref(), Some("GET"));
    assert_eq!(text(semconv::HTTP_ROUTE).as_deref(), Some("/shelf/{id}"));
    assert_eq!(text("url.path").as_deref(), Some("/shelf/7"));
    assert_eq!(text("url.query").as_deref(), Some("colour=red"));
    assert_eq!(text(semconv::URL_SCHEME).as_deref(), Some("http"));
    assert_eq!(
        text(semconv::NETWORK_PROTOCOL_VERSION).as_deref(),
        Some("1.1")
    );
    assert_eq!(text(semconv::SERVER_ADDRESS).as_deref(), Some("127.0.0.1"));
    assert_eq!(text(semconv::CLIENT_ADDRESS).as_deref(), Some("127.0.0.1"));
    assert_eq!(
        attribute(span, semconv::HTTP_RESPONSE_STATUS_CODE),
        Some(&Value::I64(200))
    );
    assert!(matches!(
        attribute(span, semconv::SERVER_PORT),
        Some(Value::I64(_))
    ));
    assert!(matches!(
        attribute(span, semconv::NETWORK_PEER_PORT),
        Some(Value::I64(_))
    ));
    assert_eq!(attribute(span, semconv::ERROR_TYPE), None);
    // reqwest sends no user agent: an unknown value is absent, not empty. `span.type` is an
    // attribute of a vendor.
    assert_eq!(attribute(span, "user_agent.original"), None);
    assert_eq!(attribute(span, "span.type"), None);
    let context = &span.span_context;
    let expected = format!("00-{}-{}-01", context.trace_id(), context.span_id());
    assert_eq!(response.headers()["traceparent"], expected);
}

#[tokio::test]
async fn every_attribute_key_occurs_once() {
    let shop = Shop::open().await;
    let (_, spans) = testing::spans_of(send(&shop, "BREW", "/shelf/7")).await;
    let mut keys: Vec<_> = server_span(&spans)
        .attributes
        .iter()
        .map(|pair| pair.key.as_str())
        .collect();
    keys.sort_unstable();
    let total = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), total);
}

// proves: L29 R2
#[tokio::test]
async fn an_unknown_method_cannot_grow_names_or_labels() {
    let shop = Shop::open().await;
    let (_, spans) = testing::spans_of(send(&shop, "BREW", "/shelf/7")).await;
    let span = server_span(&spans);
    assert_eq!(span.name, "HTTP /shelf/{id}");
    assert_eq!(
        attribute(span, semconv::HTTP_REQUEST_METHOD),
        Some(&"_OTHER".into())
    );
    assert_eq!(
        attribute(span, semconv::HTTP_REQUEST_METHOD_ORIGINAL),
        Some(&"BREW".into())
    );
    let call = spans.named("HTTP");
    assert_eq!(
        attribute(call, semconv::HTTP_REQUEST_METHOD),
        Some(&"_OTHER".into())
    );
    assert_eq!(
        attribute(call, semconv::HTTP_REQUEST_METHOD_ORIGINAL),
        Some(&"BREW".into())
    );
    let methods = duration_attributes(semconv::HTTP_REQUEST_METHOD);
    assert!(methods.contains(&"_OTHER".to_owned()), "{methods:?}");
    assert!(!methods.contains(&"BREW".to_owned()), "{methods:?}");
}

#[tokio::test]
async fn query_is_a_known_method() {
    let shop = Shop::open().await;
    let (_, spans) = testing::spans_of(send(&shop, "QUERY", "/shelf/7")).await;
    for span in [server_span(&spans), spans.named("QUERY")] {
        assert_eq!(
            attribute(span, semconv::HTTP_REQUEST_METHOD),
            Some(&"QUERY".into())
        );
        assert_eq!(attribute(span, semconv::HTTP_REQUEST_METHOD_ORIGINAL), None);
    }
}

#[tokio::test]
async fn without_a_route_the_name_is_the_method() {
    let shop = Shop::open().await;
    let (status, spans) = testing::spans_of(send(&shop, "GET", "/shelf/a/b/c")).await;
    assert_eq!(status, 404);
    let span = server_span(&spans);
    assert_eq!(span.name, "GET");
    assert_eq!(attribute(span, semconv::HTTP_ROUTE), None);
    assert_eq!(
        span.status,
        Status::Unset,
        "a 4xx is not an error of the server"
    );
}

// proves: L32
#[tokio::test]
async fn a_5xx_and_a_panic_are_errors_of_the_server() {
    let shop = Shop::open().await;
    for path in ["/shelf/broken", "/shelf/panic"] {
        let (status, spans) = testing::spans_of(send(&shop, "GET", path)).await;
        assert_eq!(status, 500);
        let span = server_span(&spans);
        assert!(matches!(span.status, Status::Error { .. }), "{path}");
        assert_eq!(attribute(span, semconv::ERROR_TYPE), Some(&"500".into()));
        assert_eq!(
            attribute(span, semconv::HTTP_RESPONSE_STATUS_CODE),
            Some(&Value::I64(500))
        );
    }
}

#[tokio::test]
async fn a_panic_is_one_exception_on_its_request_s_span() {
    let shop = Shop::open().await;
    let before = testing::sum_of(semconv::PANICS);
    let (_, spans) = testing::spans_of(send(&shop, "GET", "/shelf/panic")).await;
    let logs = server_logs(spans.trace_id());
    let panics: Vec<_> = logs
        .iter()
        .filter(|log| log.record.event_name() == Some("exception"))
        .collect();
    let [panic] = panics[..] else {
        panic!("expected one exception: {panics:?}")
    };
    let context = panic.record.trace_context().unwrap();
    assert_eq!(context.span_id, server_span(&spans).span_context.span_id());
    let text = format!("{:?}", panic.record);
    assert!(text.contains("the shelf fell over"), "{text}");
    assert!(text.contains("helpers::panic"), "no backtrace: {text}");
    assert!(
        testing::sum_of(semconv::PANICS) > before,
        "the panic is counted"
    );
}

#[tokio::test]
async fn a_panic_that_no_layer_catches_is_not_a_cancellation() {
    testing::install();
    let app = Router::new()
        .route(
            "/",
            get(async || -> String { panic!("the shelf fell over") }),
        )
        .layer(server::layer());
    let (outcome, spans) = testing::spans_of(async {
        let response = app.oneshot(Request::new(Body::empty()));
        AssertUnwindSafe(response).catch_unwind().await
    })
    .await;
    assert!(outcome.is_err());
    let span = spans.named("GET /");
    assert_eq!(attribute(span, semconv::ERROR_TYPE), Some(&"panic".into()));
}

#[tokio::test]
async fn a_request_that_its_client_cancels_is_recorded_by_span_metric_and_log() {
    let shop = Shop::open().await;
    let ((), spans) = testing::spans_of(async {
        let url = format!("{}/shelf/never", shop.url);
        let client = client_with(Duration::from_secs(2));
        client.get(url).send().await.unwrap_err();
    })
    .await;
    // The server detects a closed connection with a delay.
    let spans = spans.wait_for("GET /shelf/never").await;
    let span = server_span(&spans);
    assert!(matches!(span.status, Status::Error { .. }));
    assert_eq!(
        attribute(span, semconv::ERROR_TYPE),
        Some(&"cancelled".into())
    );
    assert!(duration_attributes(semconv::ERROR_TYPE).contains(&"cancelled".to_owned()));
    assert_eq!(server_logs(spans.trace_id()).len(), 1, "one log record");
}

// proves: B4
#[tokio::test]
async fn a_junk_traceparent_starts_a_new_trace() {
    let shop = Shop::open().await;
    let plain = reqwest::Client::builder().build().unwrap();
    for junk in [
        "",
        "00-zz-zz-01",
        "00-00000000000000000000000000000000-0000000000000000-01",
    ] {
        let request = plain
            .get(format!("{}/shelf/7", shop.url))
            .header("traceparent", junk);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let traceparent = response.headers()["traceparent"].to_str().unwrap();
        assert_eq!(traceparent.len(), 55);
        assert!(!traceparent.contains(&"0".repeat(32)));
    }
}

// proves: L21
#[tokio::test]
async fn a_request_id_is_kept_or_replaced_and_returned() {
    let shop = Shop::open().await;
    let plain = reqwest::Client::builder().build().unwrap();
    let long = "x".repeat(129);
    for (sent, kept) in [("load-42", true), ("two words", false), (&*long, false)] {
        let request = plain
            .get(format!("{}/shelf/7", shop.url))
            .header("x-request-id", sent);
        let response = request.send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert_eq!(id == sent, kept, "{id}");
        assert!(!id.is_empty());
    }
}

// proves: B13
#[tokio::test]
async fn the_access_log_carries_the_ids() {
    let shop = Shop::open().await;
    let (response, spans) = testing::spans_of(async {
        client()
            .get(format!("{}/shelf/7", shop.url))
            .send()
            .await
            .unwrap()
    })
    .await;
    let logs = server_logs(spans.trace_id());
    let [log] = &logs[..] else {
        panic!("expected one log record: {logs:?}")
    };
    let context = log.record.trace_context().unwrap();
    assert_eq!(context.span_id, server_span(&spans).span_context.span_id());
    let (_, id) = log
        .record
        .attributes_iter()
        .find(|(key, _)| key.as_str() == semconv::REQUEST_ID)
        .expect("the record has the request id");
    assert!(format!("{id:?}").contains(response.headers()["x-request-id"].to_str().unwrap()));
}

async fn send(shop: &Shop, method: &str, path: &str) -> u16 {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let response = client()
        .request(method, format!("{}{path}", shop.url))
        .send()
        .await;
    response.unwrap().status().as_u16()
}

#[track_caller]
fn server_span(spans: &Spans) -> &SpanData {
    let mut found = spans
        .iter()
        .filter(|span| span.span_kind == SpanKind::Server);
    let span = found
        .next()
        .unwrap_or_else(|| panic!("no server span in {:?}", spans.names()));
    assert!(found.next().is_none(), "{:?}", spans.names());
    assert!(
        span.parent_span_is_remote,
        "the span continues the caller's trace"
    );
    span
}

/// Returns the values of one attribute of `http.server.request.duration`.
fn duration_attributes(key: &str) -> Vec<String> {
    let mut values = Vec::new();
    for resource in testing::metrics() {
        for metric in resource
            .scope_metrics()
            .flat_map(opentelemetry_sdk::metrics::data::ScopeMetrics::metrics)
        {
            if metric.name() != semconv::HTTP_SERVER_REQUEST_DURATION {
                continue;
            }
            assert_eq!(metric.unit(), "s");
            let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else {
                panic!("not a histogram");
            };
            for point in histogram.data_points() {
                let pairs = point.attributes().filter(|pair| pair.key.as_str() == key);
                values.extend(pairs.map(|pair| pair.value.to_string()));
            }
        }
    }
    values
}
