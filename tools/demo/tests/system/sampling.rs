//! Tests of sampling by a ratio: linked traces are kept or dropped together.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use testbed::{eventually, postgres::query_number, process::Signal, sink::Span, system::http};

use crate::helpers::{self, SOON};

/// The number of requests at a time, and of books that each of these senders adds.
const SENDERS: u32 = 8;
const BOOKS_EACH: u32 = 75;

/// The share of the traces that the first service keeps, and its threshold.
const SHARE: f64 = 0.1;
const THRESHOLD: &str = "th:e666";

// proves: N30
#[tokio::test]
async fn linked_traces_are_kept_or_dropped_together() {
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", SHARE.to_string())
    })
    .await;
    let client = http().unwrap();
    let add = || async {
        for book in 0..BOOKS_EACH {
            let book = json!({"title": format!("Kindred {book}"), "author": "Octavia E. Butler"});
            let request = client.post(format!("{}/books/add", system.bookapp.url));
            let response = request.json(&book).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
        }
    };
    let books = SENDERS * BOOKS_EACH;
    join_all((0..SENDERS).map(|_| add())).await;
    let processed = || async {
        let count = "select count(*) from book_details";
        let count = query_number(&system.database_url, count).await.ok()?;
        (count == i64::from(books)).then_some(())
    };
    eventually(SOON, "all messages are processed", processed)
        .await
        .unwrap();
    for service in [&system.bookapp, &system.backend] {
        service.process.signal(Signal::SIGTERM);
        assert!(service.process.wait(SOON).await.unwrap().success());
    }

    let spans = system.sink.spans();
    let ids: HashSet<_> = spans
        .iter()
        .map(|span| (span.trace_id.clone(), span.span_id.clone()))
        .collect();
    for span in &spans {
        for link in &span.links {
            assert!(ids.contains(link), "a link to a dropped span: {span:?}");
        }
        if let Some(parent) = &span.parent_id {
            let parent = (span.trace_id.clone(), parent.clone());
            assert!(ids.contains(&parent), "a child of a dropped span: {span:?}");
        }
    }
    let created: Vec<_> = named(&spans, "create book.events.v1").collect();
    let count = f64::from(u32::try_from(created.len()).unwrap());
    let all = f64::from(books);
    let standard_deviation = (all * SHARE * (1.0 - SHARE)).sqrt();
    let difference = (count - all * SHARE).abs();
    assert!(difference < 4.0 * standard_deviation, "{count} of {all}");
    for create in created {
        assert_eq!(create.trace_state, format!("ot={THRESHOLD}"));
        let randomness = &create.trace_id[18..];
        for name in ["send book.events.v1", "process book.events.v1"] {
            let to = (create.trace_id.clone(), create.span_id.clone());
            let linked = named(&spans, name).find(|span| span.links.first() == Some(&to));
            let linked = linked.unwrap_or_else(|| panic!("no {name} for {create:?}"));
            let expected = format!("ot={THRESHOLD};rv:{randomness}");
            assert_eq!(linked.trace_state, expected, "{name}");
        }
    }
}

fn named<'s>(spans: &'s [Span], name: &'s str) -> impl Iterator<Item = &'s Span> {
    spans.iter().filter(move |span| span.name == name)
}
