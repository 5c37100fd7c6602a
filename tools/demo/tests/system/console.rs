//! Tests of the console's log lines in both formats, and of the ids in them.

use std::fs;

use serde_json::{Value, json};
use testbed::{process::Signal, system::http};

use crate::helpers::{self, SOON};

// proves: B13 L21 L38
#[tokio::test]
async fn a_json_line_is_one_object_with_the_three_ids() {
    let (trace, lines) = lines_of_adding_a_book("json").await;
    // Every line is JSON, including the two lines on stdout with the addresses.
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    let added = lines
        .iter()
        .find(|line| line["message"] == "book 93 added")
        .unwrap();
    assert_eq!(added["level"], "INFO");
    assert_eq!(added["trace_id"], trace);
    assert_eq!(added["span_id"].as_str().unwrap().len(), 16);
    assert_eq!(added["request_id"], "load-42");
    assert_eq!(added["bookapp.book.id"], 93, "a number, not a string");
    let access = lines
        .iter()
        .find(|line| line["message"] == "POST /books/add responded with 201")
        .unwrap();
    assert_eq!(access["http.response.status_code"], 201);
    assert_eq!(access["trace_id"], trace);
    assert_eq!(access["request_id"], "load-42");
    for documented in documented("json") {
        let documented: Value = serde_json::from_str(&documented).unwrap();
        let same = lines
            .iter()
            .find(|line| line["message"] == documented["message"]);
        let same = same.unwrap_or_else(|| panic!("not logged: {documented}"));
        let names = |line: &Value| {
            line.as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&documented), names(same), "docs/concepts.md");
    }
}

// proves: B13 L21 L38
#[tokio::test]
async fn a_text_line_ends_in_the_three_ids() {
    let (trace, lines) = lines_of_adding_a_book("text").await;
    let added = lines
        .iter()
        .find(|line| line.contains("book 93 added"))
        .unwrap();
    assert!(
        added.contains(" INFO bookapp::books::service: book 93 added"),
        "{added}"
    );
    assert!(
        added.contains(&format!("trace_id={trace} span_id=")),
        "{added}"
    );
    assert!(added.ends_with(" request_id=load-42"), "{added}");
    for documented in documented("text") {
        let (_, shown) = documented.split_once(' ').unwrap(); // after the timestamp
        let (shown, _) = shown.split_once(" trace_id=").unwrap();
        let mut lines = lines.iter();
        assert!(
            lines.any(|line| line.contains(shown)),
            "not logged: {shown}"
        );
    }
}

/// Returns the lines of the block of docs/concepts.md in the given format.
fn documented(format: &str) -> Vec<String> {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/concepts.md");
    let document = fs::read_to_string(document).unwrap();
    let (_, block) = document.split_once(&format!("```{format}\n")).unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

/// Adds a book. Returns the trace id of the request and all lines that bookapp printed.
async fn lines_of_adding_a_book(format: &'static str) -> (String, Vec<String>) {
    let system = helpers::start_with(|spec| spec.env("LOG_FORMAT", format)).await;
    let request = http()
        .unwrap()
        .post(format!("{}/books/add", system.bookapp.url));
    let request = request.header("x-request-id", "load-42");
    let book = json!({"title": "Solaris", "author": "Stanisław Lem"});
    let response = request.json(&book).send().await.unwrap();
    let traceparent = response.headers()["traceparent"]
        .to_str()
        .unwrap()
        .to_owned();
    system.bookapp.process.signal(Signal::SIGTERM);
    system.bookapp.process.wait(SOON).await.unwrap();
    (
        traceparent.split('-').nth(1).unwrap().to_owned(),
        system.bookapp.process.lines(),
    )
}
