//! Tests of the log records of outgoing requests.

use std::collections::BTreeMap;

use axum::http::header::CONTENT_TYPE;
use opentelemetry::{logs::Severity, trace::SpanKind};
use opentelemetry_sdk::trace::SpanData;
use telemetry_common::{semconv, testing};

use crate::helpers::{Shop, client};

/// Returns the name and the severity of each log record of outgoing requests, and its attributes.
fn outgoing(span: &SpanData) -> Vec<(&'static str, Severity, BTreeMap<String, String>)> {
    let logs = testing::logs_of(span.span_context.trace_id());
    let outgoing = logs.iter().filter_map(|log| {
        let log = &log.record;
        let name = log.event_name()?;
        let attributes = log
            .attributes_iter()
            .map(|(key, value)| (key.to_string(), format!("{value:?}")));
        name.starts_with("telemetry_common.http.client.")
            .then(|| (name, log.severity_number().unwrap(), attributes.collect()))
    });
    outgoing.collect()
}

// proves: L22
#[tokio::test]
async fn every_outgoing_request_is_logged_once_at_its_end_by_its_outcome() {
    let shop = Shop::open().await;
    let cases = [
        ("/shelf/3", "responded", Severity::Info, Some("200")),
        ("/missing", "rejected", Severity::Warn, Some("404")),
        ("/shelf/broken", "rejected", Severity::Warn, Some("500")),
    ];
    for (path, name, severity, status) in cases {
        let (_, spans) = testing::spans_of(async {
            let request = client().get(format!("{}{path}", shop.url));
            let response = request.send().await.unwrap();
            response.bytes().await.unwrap()
        })
        .await;
        let span = spans.iter().find(|span| span.span_kind == SpanKind::Client);
        let span = span.unwrap();
        let logs = outgoing(span);
        let [(event, level, attributes)] = &logs[..] else {
            panic!("{path}: {logs:?}")
        };
        assert_eq!(*event, format!("telemetry_common.http.client.{name}"));
        assert_eq!(*level, severity, "{path}");
        let expected = [
            ("subject", "vendor.response"),
            ("category", "http.response"),
            ("http.request.method", "GET"),
            ("server.address", "127.0.0.1"),
            ("network.peer.address", "127.0.0.1"),
        ];
        for (name, value) in expected {
            assert!(attributes[name].contains(value), "{name}: {attributes:?}");
        }
        let code = status.unwrap();
        assert!(attributes["http.response.status_code"].contains(code));
        assert!(attributes.contains_key("telemetry_common.duration"));
        assert!(!attributes.contains_key(semconv::RESPONSE_HEADERS));
    }
    let (_, spans) = testing::spans_of(client().get("http://127.0.0.1:1/").send()).await;
    let logs = outgoing(
        spans
            .iter()
            .find(|it| it.span_kind == SpanKind::Client)
            .unwrap(),
    );
    assert_eq!(logs.len(), 1);
    assert_eq!(
        (logs[0].0, logs[0].1),
        ("telemetry_common.http.client.failed", Severity::Warn)
    );
    assert!(logs[0].2["error.type"].contains("connect"), "{logs:?}");
}

#[tokio::test]
async fn only_listed_headers_of_a_response_are_recorded() {
    let shop = Shop::open().await;
    let listed = client().record_headers([CONTENT_TYPE]);
    let (_, spans) = testing::spans_of(async {
        let response = listed.get(format!("{}/shelf/3", shop.url)).send().await;
        response.unwrap().bytes().await.unwrap()
    })
    .await;
    let span = spans.iter().find(|span| span.span_kind == SpanKind::Client);
    let span = span.unwrap();
    let recorded: Vec<_> = span
        .attributes
        .iter()
        .map(|it| it.key.as_str())
        .filter(|key| key.starts_with("http.response.header."))
        .collect();
    assert_eq!(recorded, ["http.response.header.content-type"]);
    let headers = &outgoing(span)[0].2[semconv::RESPONSE_HEADERS];
    assert!(
        headers.contains(r#"{\"content-type\":\"text/plain"#),
        "{headers}"
    );
    assert!(!headers.contains("x-request-id"), "{headers}");
}
