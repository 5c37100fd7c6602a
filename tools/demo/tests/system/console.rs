//! Tests of the console's log lines in all formats, and of the ids in them.

use std::fs;

use serde_json::{Value, json};
use telemetry_registry::Judge;
use testbed::{eventually, process::Signal, system::http};

use crate::helpers::{self, SOON};

// proves: B13 L21 L38
#[tokio::test]
async fn a_json_line_is_one_object_with_the_three_ids() {
    let (trace, printed) = lines_of_adding_a_book("json").await;
    // Every line is JSON, including the two lines on stdout with the addresses.
    let lines: Vec<Value> = printed
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
    check_documented("json", &printed);
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
    check_documented("text", &lines);
}

// proves: L13 L38
#[tokio::test]
async fn logfmt_has_lines_of_spans_too() {
    let (trace, lines) = lines_of_adding_a_book("logfmt").await;
    let of_request: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(&format!("trace_id={trace}")))
        .collect();
    for transition in ["new_span", "close_span"] {
        let of_add = of_request.iter().filter(|line| {
            line.contains(&format!("span_event={transition}"))
                && line.contains("span_name=books.add ")
        });
        assert_eq!(of_add.count(), 1, "{transition}: {of_request:#?}");
    }
    check_documented("logfmt", &lines);
}

#[tokio::test]
async fn exported_log_records_with_the_fields_of_spans_are_declared() {
    let system = helpers::start_with(|spec| spec.env("LOG_SPAN_FIELDS", "console,otlp")).await;
    let request = http()
        .unwrap()
        .post(format!("{}/books/add", system.bookapp.url));
    let book = json!({"title": "Solaris", "author": "Stanisław Lem"});
    let response = request.json(&book).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let ingested = || async {
        let logs = system.sink.logs();
        let mut logs = logs.into_iter();
        logs.find(|log| log.event == "bookapp.book.ingested")
    };
    let ingested = eventually(SOON, "the worker logs the book", ingested)
        .await
        .unwrap();
    assert_eq!(
        ingested.attributes["messaging.destination.name"], "book.events.v1",
        "of the process span"
    );
    let mut judge = Judge::new().unwrap().with_span_fields();
    judge.judge(&system.sink, &["bookapp", "backend"]);
    if let Err(problems) = judge.finish_partial() {
        panic!("{problems}");
    }
    let mut strict = Judge::new().unwrap();
    strict.judge(&system.sink, &["bookapp", "backend"]);
    assert!(
        strict.finish_partial().is_err(),
        "the attributes are additional"
    );
}

/// Checks that docs/logs.md shows lines in this format, and only such as were printed.
fn check_documented(format: &str, printed: &[String]) {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/logs.md");
    let document = fs::read_to_string(document).unwrap();
    let (_, block) = document.split_once(&format!("```{format}\n")).unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let printed: Vec<_> = printed.iter().map(|line| without_numbers(line)).collect();
    assert!(block.lines().count() >= 2, "{block}");
    for line in block.lines() {
        assert!(
            printed.contains(&without_numbers(line)),
            "not printed: {line}\n{}",
            printed.join("\n")
        );
    }
}

/// Replaces what differs between two runs: numbers, times and ids.
fn without_numbers(line: &str) -> String {
    let is_id = |word: &str| {
        [16, 26, 32].contains(&word.len()) && word.contains(|c: char| c.is_ascii_digit())
    };
    let mut result = String::new();
    for part in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if word.starts_with(|c: char| c.is_ascii_digit()) || is_id(word) {
            result.push('#');
            result.push_str(&part[word.len()..]);
        } else {
            result.push_str(part);
        }
    }
    result
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
