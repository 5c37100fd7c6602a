//! Tests of messages that are processed together: each has its own effect, spans and failure.

use std::collections::BTreeMap;

use book_events::{BOOK_EVENTS_DEAD_LETTER, BookEvent};
use futures::future::join_all;
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use rdkafka::{
    Message as _,
    message::{Headers as _, OwnedHeaders, OwnedMessage},
};
use telemetry_common::testing::{self, Spans, attribute};
use testbed::{eventually, postgres::Session};

use crate::helpers::{SOON, TestWorker, spawn_worker};

/// The key of all messages, so that they are in one partition.
const KEY: &str = "1";

/// The book whose message holds up the others.
const FIRST: i32 = 1;

/// A check of [`TestWorker::check_details`] that makes storing slower than receiving, so that messages wait.
const STORING_IS_SLOW: &str =
    "if not exists (select from effects where transaction = pg_current_xact_id()) then
        perform pg_sleep(0.1);
     end if;";

/// Sends a message that fails until [`TestWorker::accept_details`], and then these behind it. Returns their
/// spans.
async fn publish_behind_the_first(worker: &TestWorker, events: &[BookEvent]) -> Spans {
    worker.reject_details("55P03", &FIRST.to_string()).await;
    let ((), spans) = testing::spans_of(worker.publish_with_key(KEY, &event(FIRST))).await;
    spans.wait_for("process book.events.v1").await;
    let ((), spans) = testing::spans_of(async {
        for event in events {
            worker.publish_with_key(KEY, event).await;
        }
    })
    .await;
    spans
}

fn event(book: i32) -> BookEvent {
    BookEvent::added(book, format!("load-{book}"))
}

fn text(span: &SpanData, key: &str) -> String {
    attribute(span, key)
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Waits until this number of process spans has ended.
async fn wait_for_processed(spans: &Spans, count: usize) -> Spans {
    let processed = || async {
        let spans = spans.refreshed();
        (spans.all_named("process book.events.v1").len() >= count).then_some(spans)
    };
    eventually(SOON, "the messages are processed", processed)
        .await
        .unwrap()
}

/// Returns how many messages were processed together, and in how many batches.
fn together(spans: &Spans) -> (usize, usize) {
    let receives = spans.all_named("receive book.events.v1");
    let succeeded = receives.iter().filter(|span| span.status == Status::Unset);
    let sizes: Vec<usize> = succeeded
        .map(|span| text(span, "messaging.batch.message_count").parse().unwrap())
        .collect();
    (sizes.iter().sum(), sizes.len())
}

/// Returns the attempts to process each book: the number of the attempt, and its `error.type`.
fn attempts(spans: &Spans) -> BTreeMap<String, Vec<(String, String)>> {
    let mut attempts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for create in spans.all_named("create book.events.v1") {
        let is_linked = |span: &&&SpanData| {
            span.links[0].span_context.span_id() == create.span_context.span_id()
        };
        let processed = spans.all_named("process book.events.v1");
        let attempt = |span: &&SpanData| {
            let number = text(span, "telemetry_common.messaging.attempt");
            (number, text(span, "error.type"))
        };
        let of_message = processed.iter().filter(is_linked).map(attempt);
        // The create span has the book as its key.
        let key = text(create, "messaging.kafka.message.key");
        attempts.entry(key).or_default().extend(of_message);
    }
    attempts
}

/// Returns the reason in a dead letter.
fn reason(letter: &OwnedMessage) -> &str {
    let mut headers = letter.headers().unwrap().iter();
    let reason = headers.find(|header| header.key == "dead-letter-reason");
    std::str::from_utf8(reason.unwrap().value.unwrap()).unwrap()
}

fn once() -> Vec<(String, String)> {
    vec![("1".to_owned(), String::new())]
}

// proves: N34
#[tokio::test]
async fn messages_that_wait_are_processed_together_and_each_has_its_own_span() {
    let worker = spawn_worker().await;
    worker.check_details(STORING_IS_SLOW).await;
    let events: Vec<_> = (2..=21).map(event).collect();
    let spans = publish_behind_the_first(&worker, &events).await;
    worker.accept_details().await;
    let spans = wait_for_processed(&spans, events.len()).await;
    worker.finish().await;

    let (messages, batches) = together(&spans);
    assert!(messages > batches && batches > 0);
    assert!(
        attempts(&spans)
            .values()
            .all(|attempts| *attempts == once())
    );
    let receives = spans.all_named("receive book.events.v1");
    for receive in &receives {
        let [link] = &receive.links[..] else {
            panic!("one link: {:?}", receive.links)
        };
        let linked = link.span_context.span_id();
        let creates = spans.all_named("create book.events.v1");
        assert!(
            creates
                .iter()
                .any(|create| create.span_context.span_id() == linked)
        );
        let id = receive.span_context.span_id();
        let children = spans.iter().filter(|span| span.parent_span_id == id);
        let children: Vec<_> = children.map(|span| &*span.name).collect();
        let statements = [
            "BEGIN",
            "INSERT ledger",
            "SELECT books",
            "INSERT book_details",
            "COMMIT",
        ];
        assert_eq!(children, statements);
        let linked = |span: &&&SpanData| {
            let link = span.links.get(1);
            link.is_some_and(|link| link.span_context == receive.span_context)
        };
        let processed = spans.all_named("process book.events.v1");
        let processed: Vec<_> = processed.iter().filter(linked).collect();
        let count = text(receive, "messaging.batch.message_count");
        assert_eq!(processed.len().to_string(), count);
        for process in processed {
            assert!(process.start_time >= receive.start_time);
            assert!(process.end_time > process.start_time);
            assert_ne!(
                process.span_context.trace_id(),
                receive.span_context.trace_id()
            );
            let book = text(process, "bookapp.book.id");
            let logs = testing::logs_of(process.span_context.trace_id());
            let [log] = &logs[..] else {
                panic!("expected one log record per message: {logs:?}")
            };
            let log = format!("{:?}", log.record);
            assert!(
                log.contains(&format!("load-{book}")),
                "the request id: {log}"
            );
        }
    }
}

// proves: N34
#[tokio::test]
async fn only_the_message_that_fails_is_a_dead_letter_and_a_duplicate_has_no_effect() {
    let worker = spawn_worker().await;
    // Book 2 is poison. Book 3 fails twice with an error that may pass.
    worker
        .check_details(
            "if new.book_id = 2 then
                raise exception 'never' using errcode = '23514';
             elsif new.book_id = 3 and nextval('tries') <= 2 then
                raise exception 'later' using errcode = '40001';
             end if;",
        )
        .await;
    let duplicate = event(4);
    let events = [
        event(2),
        event(3),
        duplicate.clone(),
        duplicate,
        event(5),
        event(5),
        event(6),
    ];
    let spans = publish_behind_the_first(&worker, &events).await;
    worker
        .send(KEY, Some(b"no event"), OwnedHeaders::new())
        .await;
    worker.publish_with_key(KEY, &event(7)).await;
    worker.accept_details().await;
    worker.wait_for_rows("effects where book_id = 7", 1).await;
    for (book, effects) in [(2, 0), (3, 1), (4, 1), (6, 1)] {
        let rows = worker
            .count(&format!("effects where book_id = {book}"))
            .await;
        assert_eq!(rows, effects, "book {book}");
    }
    // All but that of book 2: both events of book 5, and one of the duplicates.
    assert_eq!(worker.count("ledger").await, 7);
    let letters = worker
        .kafka
        .messages(BOOK_EVENTS_DEAD_LETTER, 2)
        .await
        .unwrap();
    let reasons: Vec<_> = letters.iter().map(reason).collect();
    assert_eq!(reasons, ["database", "bad_json"]);
    worker.finish().await;

    let attempts = attempts(&spans.refreshed());
    let attempt = |number: &str, error_type: &str| (number.to_owned(), error_type.to_owned());
    assert_eq!(attempts["2"], [attempt("1", "database")]);
    // The first failure is one of its batch if book 2 was not in it.
    let [first, .., last] = &attempts["3"][..] else {
        panic!("{attempts:?}")
    };
    assert_eq!(*first, attempt("1", "database"));
    assert_eq!(last.1, "");
    assert_eq!(attempts["4"], [once(), once()].concat());
    assert_eq!(attempts["6"], once());
}

// proves: N34
#[tokio::test]
async fn an_error_that_passes_is_no_attempt_of_the_messages_of_its_batch() {
    let worker = spawn_worker().await;
    // The second message of the first batch fails once, whichever message that is.
    worker
        .check_details(&format!(
            "{STORING_IS_SLOW}
             if exists (select from effects where transaction = pg_current_xact_id()) then
                if nextval('tries') = 1 then
                    raise exception 'later' using errcode = '40001';
                end if;
             end if;"
        ))
        .await;
    let events: Vec<_> = (2..=21).map(event).collect();
    let spans = publish_behind_the_first(&worker, &events).await;
    worker.accept_details().await;
    worker.wait_for_rows("effects", 21).await;
    assert_eq!(worker.count("tries where is_called").await, 1);
    worker.finish().await;

    let spans = spans.refreshed();
    assert!(
        attempts(&spans)
            .values()
            .all(|attempts| *attempts == once())
    );
    let (messages, _) = together(&spans);
    assert!(
        messages > 1,
        "what follows the first message is processed together"
    );
}

// proves: N34
#[tokio::test]
async fn a_batch_that_is_delivered_again_has_no_further_effect() {
    let worker = spawn_worker().await;
    worker.check_details("").await;
    let events: Vec<_> = (2..=21).map(event).collect();
    publish_behind_the_first(&worker, &events).await;
    for event in &events {
        worker.publish_with_key(KEY, event).await;
    }
    worker.publish_with_key(KEY, &event(22)).await;
    worker.accept_details().await;
    worker.wait_for_rows("effects where book_id = 22", 1).await;
    assert_eq!(worker.count("effects").await, 22);
    assert_eq!(worker.count("ledger").await, 22);
    worker.finish().await;
}

// proves: N34
#[tokio::test]
async fn a_worker_that_stops_inside_a_batch_loses_and_repeats_nothing() {
    let worker = spawn_worker().await;
    worker
        .check_details("if new.book_id = 11 then perform pg_advisory_xact_lock(11); end if;")
        .await;
    let lock = Session::open(&worker.database_url, "select pg_advisory_lock(11)")
        .await
        .unwrap();
    let events: Vec<_> = (2..=21).map(event).collect();
    publish_behind_the_first(&worker, &events).await;
    worker.accept_details().await;
    worker
        .wait_for_rows(
            "pg_locks join pg_database on pg_database.oid = database
             where datname = current_database() and locktype = 'advisory' and not granted",
            1,
        )
        .await;
    // The worker is stopping when the lock goes.
    let (worker, ()) = tokio::join!(worker.restart(), async { drop(lock) });
    worker.publish_with_key(KEY, &event(22)).await;
    worker.wait_for_rows("effects where book_id = 22", 1).await;
    assert_eq!(worker.count("effects").await, 22);
    worker.finish().await;
}

#[tokio::test]
async fn a_partition_that_waits_with_a_full_queue_does_not_hold_up_the_others() {
    let worker = spawn_worker().await;
    // Far more messages than a queue has room for, so that it is full before the others arrive.
    let events: Vec<_> = (0..6000).map(|_| event(2)).collect();
    worker.reject_details("55P03", &FIRST.to_string()).await;
    worker.publish_with_key(KEY, &event(FIRST)).await;
    join_all(
        events
            .iter()
            .map(|event| worker.publish_with_key(KEY, event)),
    )
    .await;
    // These keys are on all partitions.
    for key in 2..=12 {
        worker.publish_with_key(&key.to_string(), &event(30)).await;
    }
    worker
        .wait_for_rows("book_details where book_id = 30", 1)
        .await;
    assert_eq!(worker.count("book_details where book_id = 2").await, 0);
    worker.accept_details().await;
    worker.wait_for_rows("ledger", 1 + 6000 + 11).await;
    worker.finish().await;
}
