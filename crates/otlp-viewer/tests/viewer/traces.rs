//! Tests of the list of traces and of one trace.

use std::collections::BTreeSet;

use otlp_viewer::Capacity;
use prost::Message;
use serde_json::json;

use crate::helpers::{PROTOBUF, attribute, failed, linked, log, logs, span, start, start_with};

#[tokio::test]
async fn each_filter_selects_its_traces() {
    let viewer = start().await;
    let mut slow = span(1, 1, "slow");
    slow.end_time_unix_nano += 1_000_000_000;
    slow.attributes.push(attribute("http.route", "/books/{id}"));
    let mut named = span(3, 1, "named");
    named.attributes.push(attribute("author", "Stanisław LEM"));
    viewer
        .spans("bookapp", &[slow, failed(span(2, 1, "failed"))])
        .await;
    viewer.spans("backend", &[named]).await;
    assert_eq!(viewer.names("").await, ["failed", "named", "slow"]);
    for (query, expected) in [
        ("service=backend", "named"),
        ("route=/books/{id}", "slow"),
        ("status=failed", "failed"),
        ("service=bookapp&status=ok", "slow"),
        ("min_ms=500", "slow"),
        ("max_ms=500&service=bookapp", "failed"),
        ("text=lem", "named"),
        ("text=NO MORE books", "failed"),
        ("text=01010101010101010101010101010101", "slow"),
    ] {
        assert_eq!(viewer.names(query).await, [expected], "{query}");
    }
    assert_eq!(viewer.names("text=tolkien").await, [""; 0]);
    assert_eq!(
        viewer.names("limit=2").await,
        ["failed", "named"],
        "the newest"
    );
}

#[tokio::test]
async fn a_trace_has_its_spans_its_logs_and_the_traces_that_are_linked_with_it() {
    let viewer = start().await;
    let mut create = span(1, 2, "create");
    create.parent_span_id = vec![1; 8];
    viewer.spans("bookapp", &[span(1, 1, "add"), create]).await;
    viewer
        .spans("bookapp", &[linked(span(2, 1, "send"), 1, 2)])
        .await;
    viewer
        .spans("backend", &[linked(span(3, 1, "process"), 1, 2)])
        .await;
    viewer.spans("backend", &[span(4, 1, "other")]).await;
    let records = [log(3, 9, "stored"), log(4, 17, "other")];
    let body = logs("backend", &records).encode_to_vec();
    viewer.post("/v1/logs", PROTOBUF, body).await;
    // From each of them, all three are found.
    for (first, others) in [("01", ["send", "process"]), ("03", ["add", "send"])] {
        let traces = viewer.data(&format!("traces/{}", first.repeat(16))).await;
        let names: Vec<_> = traces
            .as_array()
            .unwrap()
            .iter()
            .map(|trace| &trace["name"])
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        for other in others {
            assert!(names[1..].contains(&&json!(other)), "{names:?}");
        }
    }
    let traces = viewer.data(&format!("traces/{}", "01".repeat(16))).await;
    let create = &traces[0]["spans"][1];
    assert_eq!(create["parent_id"], "01".repeat(8));
    let senders: Vec<_> = create["linked_from"].as_array().unwrap().iter().collect();
    assert_eq!(senders.len(), 2);
    assert_eq!(senders[0]["name"], "send");
    assert_eq!(traces[1]["spans"][0]["links"][0]["name"], "create");
    assert_eq!(traces[2]["logs"][0]["body"], "stored");
    assert_eq!(traces[2]["logs"].as_array().unwrap().len(), 1);
    assert_eq!(traces[0]["spans"][0]["duration_ms"], 1.0);
}

/// Ten messages of one batch: each was created in a trace of its own, and all were received together.
#[tokio::test]
async fn the_other_messages_of_a_batch_are_not_linked_with_one() {
    let viewer = start().await;
    viewer.spans("backend", &[span(100, 1, "receive")]).await;
    for number in 1..=10 {
        let process = linked(linked(span(number + 50, 1, "process"), number, 1), 100, 1);
        viewer.spans("bookapp", &[span(number, 1, "create")]).await;
        viewer.spans("backend", &[process]).await;
    }
    let traces = viewer.data(&format!("traces/{}", "01".repeat(16))).await;
    let traces = traces.as_array().unwrap().iter();
    let ids: BTreeSet<_> = traces
        .map(|trace| trace["trace_id"].as_str().unwrap())
        .collect();
    let expected = [1, 51, 100].map(|number| format!("{number:02x}").repeat(16));
    assert_eq!(ids, expected.iter().map(String::as_str).collect());
}

#[tokio::test]
async fn a_span_that_is_sent_again_is_there_once() {
    let viewer = start().await;
    for _ in 0..2 {
        viewer.spans("bookapp", &[span(1, 1, "again")]).await;
    }
    let traces = viewer.data("traces").await;
    assert_eq!(traces[0]["spans"], 1);
}

#[tokio::test]
async fn the_oldest_spans_and_log_records_are_removed_with_their_links() {
    let capacity = Capacity {
        spans: 2,
        logs: 1,
        ..Capacity::default()
    };
    let viewer = start_with(capacity).await;
    viewer.spans("bookapp", &[span(1, 1, "create")]).await;
    viewer
        .spans("bookapp", &[linked(span(2, 1, "send"), 1, 1)])
        .await;
    viewer.spans("bookapp", &[span(3, 1, "newest")]).await;
    let body = logs("bookapp", &[log(3, 9, "old"), log(3, 9, "new")]).encode_to_vec();
    viewer.post("/v1/logs", PROTOBUF, body).await;
    assert_eq!(viewer.names("").await, ["newest", "send"]);
    assert_eq!(
        viewer.data(&format!("traces/{}", "01".repeat(16))).await,
        json!([])
    );
    let send = viewer.data(&format!("traces/{}", "02".repeat(16))).await;
    let link = &send[0]["spans"][0]["links"][0];
    assert_eq!(
        (&link["span_id"], &link["name"]),
        (&json!("01".repeat(8)), &json!(null))
    );
    let newest = viewer.data(&format!("traces/{}", "03".repeat(16))).await;
    assert_eq!(newest[0]["logs"].as_array().unwrap().len(), 1);
    assert_eq!(newest[0]["logs"][0]["body"], "new");
    let overview = viewer.data("overview").await;
    assert_eq!(overview["spans"], json!({"kept": 2, "removed": 1}));
    assert_eq!(overview["logs"], json!({"kept": 1, "removed": 1}));
    // The span that linked to it is removed as well.
    viewer
        .spans("bookapp", &[span(4, 1, "a"), span(5, 1, "b")])
        .await;
    viewer.spans("bookapp", &[span(1, 1, "create")]).await;
    let create = viewer.data(&format!("traces/{}", "01".repeat(16))).await;
    assert_eq!(create[0]["spans"][0]["linked_from"], json!([]));
}

#[tokio::test]
async fn log_records_are_found_by_severity_service_trace_and_text() {
    let viewer = start().await;
    let records = [log(1, 9, "Stored"), log(2, 17, "no book")];
    let body = logs("bookapp", &records).encode_to_vec();
    viewer.post("/v1/logs", PROTOBUF, body).await;
    let body = logs("backend", &[log(3, 13, "slow")]).encode_to_vec();
    viewer.post("/v1/logs", PROTOBUF, body).await;
    for (query, expected) in [
        ("min_severity=17", "no book"),
        ("service=backend", "slow"),
        ("text=stored", "Stored"),
        ("trace=02020202020202020202020202020202", "no book"),
        ("limit=1", "slow"),
    ] {
        let found = viewer.data(&format!("logs?{query}")).await;
        assert_eq!(found.as_array().unwrap().len(), 1, "{query}");
        assert_eq!(found[0]["body"], expected, "{query}");
    }
    let warning = viewer.data("logs?service=backend").await;
    assert_eq!(warning[0]["severity"], "WARN");
}
