//! Tests of the traces of one book: names, kinds, parents, links, services, status, attributes and
//! attribute types of all spans.

use std::fmt::Write;

use demo::tour::Tour;
use expect_test::expect_file;
use serde_json::{Value, json};
use testbed::{
    eventually, postgres::query_number, process::Signal, sink::Span, system::http, trace::Trace,
};

use crate::helpers;

/// Attributes whose values differ between runs. The test compares only their types.
const VARYING: [&str; 13] = [
    "bookapp.book.id",
    "client.address",
    "messaging.batch.message_count",
    "messaging.kafka.message.key",
    "messaging.kafka.offset",
    "messaging.destination.partition.id",
    "messaging.message.body.size",
    "messaging.message.id",
    "network.peer.port",
    "server.port",
    "telemetry_common.request.id",
    "url.full",
    "url.query",
];

// proves: B1 B2 B6 B8 B9 B10 L31 L32 T4 T11 T14 N1 N3 N10 R11
#[tokio::test]
async fn one_book_makes_three_linked_traces() {
    let system = helpers::start().await;
    let tour = Tour::take(&system, "Kindred", "Octavia E. Butler")
        .await
        .unwrap();
    let mut text = String::new();
    for trace in [&tour.adding, &tour.sending, &tour.processing, &tour.listing] {
        let create = tour.adding.named("create book.events.v1").unwrap();
        describe(trace, &[create], &mut text);
    }
    expect_file!["one_book.txt"].assert_eq(&text);
    for (what, passes) in tour.checks() {
        assert!(passes, "{what}");
    }
}

// proves: N34
#[tokio::test]
async fn messages_that_waited_share_the_trace_of_their_transaction() {
    let system = helpers::start().await;
    system.backend.process.signal(Signal::SIGSTOP);
    let books: Vec<_> = (0..60)
        .map(|book| json!({"title": format!("Kindred {book}"), "author": "Octavia E. Butler"}))
        .collect();
    let request = http()
        .unwrap()
        .post(format!("{}/books/bulk_add", system.bookapp.url))
        .json(&books);
    request.send().await.unwrap().error_for_status().unwrap();
    let unsent = "select count(*) from outbox where published_at is null";
    let all_sent = || async {
        let unsent = query_number(&system.database_url, unsent).await.ok()?;
        (unsent == 0).then_some(())
    };
    eventually(helpers::SOON, "all messages are sent", all_sent)
        .await
        .unwrap();
    system.backend.process.signal(Signal::SIGCONT);

    let spans_of_batch = || async {
        let spans = system.sink.spans();
        let receive = spans
            .iter()
            .find(|span| span.name.starts_with("receive "))?;
        let to = |span: &Span| (span.trace_id.clone(), span.span_id.clone());
        let create = spans
            .iter()
            .find(|span| receive.links.contains(&to(span)))?;
        let links = [to(create), to(receive)];
        let process = spans.iter().find(|span| span.links == links)?;
        Some([receive, process, create].map(Span::clone))
    };
    let [receive, process, create] =
        eventually(helpers::SOON, "a batch is processed", spans_of_batch)
            .await
            .unwrap();
    let spans = system.sink.spans();
    let mut text = String::new();
    for trace in [&receive.trace_id, &process.trace_id] {
        describe(&Trace::of(&spans, trace), &[&create, &receive], &mut text);
    }
    // The statement has read the books of all messages.
    let count = &receive.attributes["messaging.batch.message_count"];
    let text = text.replace(&format!("returned_rows = {count}"), "returned_rows = (all)");
    expect_file!["one_batch.txt"].assert_eq(&text);
    helpers::assert_declared(&system);
}

// proves: T12
#[tokio::test]
async fn log_events_belong_to_the_span_in_which_they_happen() {
    let system = helpers::start().await;
    let tour = Tour::take(&system, "Kindred", "Octavia E. Butler")
        .await
        .unwrap();
    for (event, trace, span) in [
        ("bookapp.book.added", &tour.adding, "books.add"),
        (
            "telemetry_common.http.server.responded",
            &tour.adding,
            "POST /books/add",
        ),
        (
            "bookapp.book.ingested",
            &tour.processing,
            "ingestion.enrich",
        ),
    ] {
        let span = trace.named(span).unwrap();
        let logged = || async {
            let logs = system.sink.logs();
            let log = logs.into_iter().find(|log| log.event == event)?;
            Some((log.trace_id, log.span_id))
        };
        let ids = eventually(helpers::SOON, event, logged).await.unwrap();
        assert_eq!(
            ids,
            (span.trace_id.clone(), span.span_id.clone()),
            "{event}"
        );
    }
}

// proves: R11
#[tokio::test]
async fn a_trace_goes_over_grpc_as_over_http() {
    let system = helpers::start_with(|spec| spec.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")).await;
    let tour = Tour::take(&system, "Kindred", "Octavia E. Butler")
        .await
        .unwrap();
    for (what, passes) in tour.checks() {
        assert!(passes, "{what}");
    }
}

// proves: N3
#[tokio::test]
async fn the_worker_s_trace_can_continue_the_request_s() {
    let system = helpers::start_with(|spec| spec.env("KAFKA_TRACE_RELATION", "parent")).await;
    let tour = Tour::take(&system, "Kindred", "Octavia E. Butler")
        .await
        .unwrap();
    let create = tour.adding.named("create book.events.v1").unwrap();
    let process = tour.processing.named("process book.events.v1").unwrap();
    assert_eq!(process.trace_id, create.trace_id);
    assert_eq!(process.parent_id.as_ref(), Some(&create.span_id));
    assert_eq!(
        process.links,
        [(create.trace_id.clone(), create.span_id.clone())]
    );
    helpers::assert_declared(&system);
}

/// Writes a trace as an indented tree, ordered by start time.
///
/// `linked` are the spans to which others may link.
fn describe(trace: &Trace, linked: &[&Span], text: &mut String) {
    for root in trace.roots() {
        describe_span(trace, root, linked, 0, text);
    }
    text.push('\n');
}

fn describe_span(trace: &Trace, span: &Span, linked: &[&Span], depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    let _ = writeln!(
        text,
        "{indent}{} {} {} {}",
        span.name,
        span.kind,
        span.service(),
        span.status
    );
    for (trace_id, span_id) in &span.links {
        let is_this = |span: &&&Span| span.trace_id == *trace_id && span.span_id == *span_id;
        let target = linked.iter().find(is_this).unwrap();
        let (kind, _) = target.name.split_once(' ').unwrap();
        let _ = writeln!(text, "{indent}  link to {kind}");
    }
    for (key, value) in &span.attributes {
        // This attribute is present only if the query waited for a connection.
        if key == "telemetry_common.db.connection.wait" {
            continue;
        }
        let value = match (VARYING.contains(&&**key), value) {
            (true, Value::String(_)) => "(text)".to_owned(),
            (true, Value::Number(_)) => "(number)".to_owned(),
            (_, value) => normalize(&value.to_string()),
        };
        let _ = writeln!(text, "{indent}  {key} = {value}");
    }
    for child in trace.children(span) {
        describe_span(trace, child, linked, depth + 1, text);
    }
}

/// Puts a value on one line and replaces the number of the test database.
fn normalize(value: &str) -> String {
    let line = value
        .replace("\\n", " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match line.split_once("books_") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}books_N{rest}")
        }
        None => line,
    }
}
