//! Tests of error events.

use serde_json::json;

use crate::helpers::{span, start};

#[tokio::test]
async fn an_error_event_is_shown_in_its_trace_and_other_items_are_not() {
    let viewer = start().await;
    let trace = "01".repeat(16);
    let event =
        json!({"event_id": "e", "message": "no\nbook", "contexts": {"trace": {"trace_id": trace}}});
    let event = serde_json::to_string_pretty(&event).unwrap();
    let length = event.len();
    let envelope = format!(
        "{{\"event_id\":\"e\"}}\n{{\"type\":\"session\"}}\n{{}}\n{{\"type\":\"event\",\"length\":{length}}}\n{event}\n"
    );
    let response = viewer
        .post(
            "/api/42/envelope/",
            "application/x-sentry-envelope",
            envelope,
        )
        .await;
    assert_eq!(response.status(), 200);
    viewer.spans("bookapp", &[span(1, 1, "GET /books")]).await;
    let traces = viewer.data(&format!("traces/{trace}")).await;
    assert_eq!(traces[0]["errors"][0]["message"], "no\nbook");
    assert_eq!(viewer.data("errors").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_envelope_gets_a_clear_error() {
    let viewer = start().await;
    for (envelope, expected) in [
        ("junk", "no envelope: expected value"),
        (
            "{}\n{\"type\":\"event\",\"length\":9}\n{}",
            "an item is longer than the envelope",
        ),
        ("{}\n{\"type\":\"event\"}\n{", "no envelope: EOF"),
    ] {
        let response = viewer
            .post("/api/42/envelope/", "text/plain", envelope)
            .await;
        assert_eq!(response.status(), 400);
        let text = response.text().await.unwrap();
        assert!(text.contains(expected), "{text}");
    }
    assert!(viewer.viewer.dsn().ends_with("/1"));
}
