//! Tests that no secret leaves the services: marked values are sent to every entry point and must
//! not appear in any output.

use std::{sync::Arc, time::Duration};

use book_events::BOOK_EVENTS;
use otlp_viewer::Viewer;
use rdkafka::{
    Message,
    message::{Headers, OwnedMessage},
};
use reqwest::Client;
use serde_json::{Value, json};
use testbed::{
    System, eventually, postgres::query_number, process::Signal, sentry::SentrySink, system::http,
};

use crate::{
    helpers::{self, SOON},
    viewer::start_viewer,
};

/// The text that every marked value contains.
const MARK: &str = "s3cr3t";

// proves: L20 N13
#[tokio::test]
async fn no_secret_comes_out() {
    let sentry = SentrySink::start().await.unwrap();
    let system = helpers::start_with(|spec| {
        // The test database uses trust authentication, so any password works.
        let url = spec.env_value("DATABASE_URL").unwrap_or_default();
        let url = url.replace("postgres@", "postgres:s3cr3t-password@");
        spec.env("DATABASE_URL", url)
            .env(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=s3cr3t-exporter",
            )
            .env("RUST_LOG", "debug")
            .env("SENTRY_DSN", sentry.dsn())
            .env("SENTRY_WARNINGS", "true")
    })
    .await;
    let viewer = start_viewer().await;
    system.sink.copy_to(Arc::clone(viewer.store()) as _);
    let client = http().unwrap();
    let mut responses = String::new();
    for (method, path, body) in [
        (
            "GET",
            "/books?limit=1&token=s3cr3t-token&X-Amz-Signature=s3cr3t-sig",
            "",
        ),
        ("GET", "/books?limit=none&password=s3cr3t-password", ""),
        ("GET", "/nowhere?api_key=s3cr3t-key", ""),
        (
            "POST",
            "/books/add",
            r#"{"title": "s3cr3t title", "author": "A"}"#,
        ),
        (
            "POST",
            "/books/add",
            r#"{"title": "s3cr3t title", "author": 7}"#,
        ),
        ("POST", "/books/add", r#"{"title": "s3cr3t title", "#),
        ("PATCH", "/books/4711", r#"{"title": "s3cr3t title"}"#),
    ] {
        let response = client
            .request(
                method.parse().unwrap(),
                format!("{}{path}", system.bookapp.url),
            )
            .header("authorization", "Bearer s3cr3t-bearer")
            .header("cookie", "session=s3cr3t-session")
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        let headers = format!("{:?}", response.headers());
        responses = [responses, headers, response.text().await.unwrap()].join("\n");
    }
    let processed = async || {
        let query = "select count(*) from book_details";
        (query_number(&system.database_url, query).await.unwrap() == 1).then_some(())
    };
    eventually(Duration::from_secs(30), "the book is processed", processed)
        .await
        .unwrap();
    let messages = system
        .mock_kafka()
        .unwrap()
        .messages(BOOK_EVENTS, 1)
        .await
        .unwrap();
    list_without_details(&system, &client).await;
    system.bookapp.process.signal(Signal::SIGTERM);
    assert!(system.bookapp.process.wait(SOON).await.unwrap().success());
    let lines = [
        system.bookapp.process.lines(),
        system.backend.process.lines(),
    ]
    .concat();
    let sink = &system.sink;
    let (spans, logs, points) = (sink.spans(), sink.logs(), sink.points());
    assert!(!sentry.events().is_empty());
    assert!(lines.len() > 10 && spans.len() > 10 && logs.len() > 5 && points.len() > 10);
    for (what, text) in [
        ("responses", responses),
        ("console", lines.join("\n")),
        ("spans", format!("{spans:#?}")),
        ("logs", format!("{logs:#?}")),
        ("metrics", format!("{points:#?}")),
        ("Sentry envelopes", sentry.envelopes().join("\n")),
        ("messages", messages.iter().map(as_text).collect()),
        ("viewer", shown(&viewer, &client).await),
    ] {
        let found = text.lines().find(|line| line.contains(MARK));
        assert_eq!(found, None, "in the {what}");
    }
    let queries: Vec<_> = spans
        .iter()
        .filter_map(|span| span.attributes.get("url.query"))
        .collect();
    let redacted = json!("limit=1&token=REDACTED&X-Amz-Signature=REDACTED");
    assert!(queries.contains(&&redacted), "{queries:?}");
}

/// Returns all that the viewer shows, as text.
async fn shown(viewer: &Viewer, client: &Client) -> String {
    let get = async |path: &str| {
        let response = client.get(format!("{}/data/{path}", viewer.url())).send();
        response.await.unwrap().json::<Value>().await.unwrap()
    };
    let traces = get("traces?limit=500").await;
    let mut all = vec![get("logs?limit=500").await, get("metrics?limit=500").await];
    for trace in traces.as_array().unwrap() {
        let id = trace["trace_id"].as_str().unwrap();
        all.push(get(&format!("traces/{id}")).await);
    }
    assert!(all.len() > 5, "{all:?}");
    format!("{all:#?}")
}

/// Causes a warning with breadcrumbs: lists books while the backend is down.
async fn list_without_details(system: &System, client: &Client) {
    system.backend.process.signal(Signal::SIGTERM);
    assert!(system.backend.process.wait(SOON).await.unwrap().success());
    let list = format!("{}/books?limit=1&token=s3cr3t-token", system.bookapp.url);
    let list = client
        .get(list)
        .header("authorization", "Bearer s3cr3t-bearer");
    list.send().await.unwrap().error_for_status().unwrap();
}

/// Returns the payload and the headers of a message as text.
fn as_text(message: &OwnedMessage) -> String {
    let lossy =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter());
    headers.fold(lossy(message.payload()), |text, header| {
        format!("{text}\n{}: {}", header.key, lossy(header.value))
    })
}
