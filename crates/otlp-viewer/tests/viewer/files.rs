//! Tests of files of OTLP JSON.

use std::fs;

use otlp_viewer::file;
use serde_json::{json, to_string_pretty};
use tempfile::tempdir;

use crate::helpers::{log, logs, metrics, span, start, traces};

#[tokio::test]
async fn a_file_contains_requests_of_each_signal_on_one_line_or_on_many() {
    let viewer = start().await;
    let folder = tempdir().unwrap();
    let path = folder.path().join("telemetry.jsonl");
    let content = [
        json!(traces("bookapp", &[span(1, 1, "first")])).to_string(),
        to_string_pretty(&traces("bookapp", &[span(2, 1, "second")])).unwrap(),
        json!(logs("bookapp", &[log(1, 9, "stored")])).to_string(),
        json!(metrics("bookapp", &["books"])).to_string(),
    ];
    fs::write(&path, content.join("\n")).unwrap();
    assert_eq!(file::load(viewer.viewer.store(), &path).unwrap(), 4);
    assert_eq!(viewer.names("").await, ["first", "second"]);
    assert_eq!(viewer.data("logs").await[0]["body"], "stored");
    assert_eq!(viewer.data("metrics").await[0]["points"][0]["value"], 7.0);
}

#[tokio::test]
async fn the_error_of_an_invalid_file_names_the_file_and_the_request() {
    let viewer = start().await;
    let folder = tempdir().unwrap();
    let path = folder.path().join("broken.json");
    let valid = json!(traces("bookapp", &[span(1, 1, "first")])).to_string();
    for (rest, expected) in [
        ("{", "EOF"),
        (
            "{\"spans\": []}",
            "neither resourceSpans, resourceLogs nor resourceMetrics",
        ),
        ("{\"resourceSpans\": 7}", "invalid type"),
        (
            &*json!(traces("bookapp", &[span(0, 1, "zero")])).to_string(),
            "1 spans: a trace id",
        ),
    ] {
        fs::write(&path, format!("{valid}\n{rest}")).unwrap();
        let error = file::load(viewer.viewer.store(), &path).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("broken.json: request 2"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(
        viewer.names("").await,
        ["first"],
        "what stands before is shown"
    );
    let missing = file::load(viewer.viewer.store(), &folder.path().join("missing")).unwrap_err();
    assert!(missing.to_string().contains("could not open"), "{missing}");
}
