//! Tests of message delivery: every acknowledged book is processed with exactly one effect, even if
//! processes stop or are killed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use book_events::BOOK_EVENTS;
use futures::future::join_all;
use serde_json::json;
use testbed::{
    System, eventually,
    kafka::PARTITIONS,
    postgres::{Session, query_number},
    process::Signal,
    system::http,
};

use crate::helpers::{self, SOON};

const TIMEOUT: Duration = Duration::from_mins(2);

// proves: N24 B30
#[tokio::test]
async fn sigterm_under_load_cuts_no_accepted_request_and_loses_no_telemetry() {
    let system = helpers::start().await;
    let stopping = AtomicBool::new(false);
    let load = || async {
        let client = http().unwrap();
        let book = json!({"title": "Under load", "author": "Somebody"});
        let url = format!("{}/books/add", system.bookapp.url);
        let mut added = 0;
        while let Ok(response) = client.post(&url).json(&book).send().await {
            assert_eq!(response.status(), 201);
            response.json::<i64>().await.unwrap(); // The response is complete.
            added += 1;
        }
        // No request fails before SIGTERM.
        assert!(stopping.load(Ordering::SeqCst));
        added
    };
    let stop = async {
        let enough = || async { (books(&system).await >= 200).then_some(()) };
        eventually(TIMEOUT, "200 books are stored", enough)
            .await
            .unwrap();
        stopping.store(true, Ordering::SeqCst);
        system.bookapp.process.signal(Signal::SIGTERM);
    };
    let (added, ()) = tokio::join!(join_all((0..8).map(|_| load())), stop);
    let added: i64 = added.iter().sum();
    assert!(system.bookapp.process.wait(SOON).await.unwrap().success());

    assert_eq!(
        books(&system).await,
        added,
        "the stored books are exactly the acknowledged ones"
    );
    let spans = system.sink.spans();
    for name in ["POST /books/add", "books.add", "create book.events.v1"] {
        assert_eq!(
            count(spans.iter().filter(|span| span.name == name)),
            added,
            "{name}"
        );
    }
    assert_eq!(count(spans.iter().filter(|span| span.status == "ERROR")), 0);
    let logs = system.sink.logs();
    let is_about_a_book = |body: &str| body.starts_with("book ") && body.ends_with(" added");
    assert_eq!(
        count(logs.iter().filter(|log| is_about_a_book(&log.body))),
        added
    );
}

// proves: N24 B9
#[tokio::test]
async fn sigterm_lets_the_worker_finish_and_commit_its_offset() {
    let mut system = helpers::start().await;
    add_many(&system, 300).await;
    let some = || async { (details(&system).await > 20).then_some(()) };
    eventually(TIMEOUT, "the worker processes messages", some)
        .await
        .unwrap();
    system.backend.process.signal(Signal::SIGTERM);
    assert!(system.backend.process.wait(SOON).await.unwrap().success());
    let before = details(&system).await;
    let processed = |system: &System| {
        let spans = system.sink.spans();
        count(
            spans
                .iter()
                .filter(|span| span.name == "process book.events.v1"),
        )
    };
    assert_eq!(
        processed(&system),
        before,
        "every processed message has a span"
    );

    system.backend.restart().await.unwrap();
    let all = || async { (details(&system).await == 300).then_some(()) };
    eventually(TIMEOUT, "the other messages are processed", all)
        .await
        .unwrap();
    system.backend.process.signal(Signal::SIGTERM);
    assert!(system.backend.process.wait(SOON).await.unwrap().success());
    assert_eq!(processed(&system), 300, "no message was delivered twice");
}

// proves: N1
#[tokio::test]
async fn another_instance_relays_the_backlog_of_a_killed_one() {
    let system = helpers::start().await;
    let other = system.bookapp.start_another().await.unwrap();
    other.wait_until_ready().await.unwrap();
    add_many(&system, 200).await;
    system.bookapp.process.signal(Signal::SIGKILL);
    let all = || async { (details(&system).await == 200).then_some(()) };
    eventually(TIMEOUT, "all messages are processed", all)
        .await
        .unwrap();
}

#[tokio::test]
async fn workers_that_come_and_go_leave_one_effect_each() {
    let system = helpers::start().await;
    let ledger = "select count(*) from ledger";
    add_many(&system, 200).await;
    let other = system.backend.start_another().await.unwrap();
    add_many(&system, 200).await;
    let some = || async { (details(&system).await > 50).then_some(()) };
    eventually(TIMEOUT, "the workers process messages", some)
        .await
        .unwrap();
    system.backend.process.signal(Signal::SIGTERM);
    let all = || async { (details(&system).await == 400).then_some(()) };
    eventually(TIMEOUT, "all messages are processed", all)
        .await
        .unwrap();
    assert_eq!(
        query_number(&system.database_url, ledger).await.unwrap(),
        400
    );
    other.process.signal(Signal::SIGTERM);
    assert!(other.process.wait(SOON).await.unwrap().success());
    let kafka = system.mock_kafka().unwrap();
    assert_eq!(kafka.count(BOOK_EVENTS).unwrap(), 400);
}

#[tokio::test]
async fn a_worker_without_partitions_is_ready_too() {
    let system = helpers::start().await;
    // One more than there are partitions.
    let mut others = Vec::new();
    for _ in 0..PARTITIONS {
        let other = system.backend.start_another().await.unwrap();
        other.wait_until_ready().await.unwrap();
        others.push(other);
    }
}

// proves: N1
#[tokio::test]
async fn the_outbox_backlog_is_measured() {
    let system = helpers::start().await;
    let newest = |name: &str| {
        let points = system.sink.points();
        points
            .iter()
            .find(|point| point.name == name)
            .map(|point| point.value)
    };
    let kafka = system.mock_kafka().unwrap();
    kafka.stop_broker(1).unwrap();
    add_many(&system, 3).await;
    let has_backlog = || async {
        let pending = newest("bookapp.outbox.pending") == Some(3.0);
        (pending && newest("bookapp.outbox.oldest.age") > Some(0.0)).then_some(())
    };
    eventually(TIMEOUT, "the metrics show the backlog", has_backlog)
        .await
        .unwrap();
    kafka.restart_broker(1).unwrap();
    let empty = || async { (newest("bookapp.outbox.pending") == Some(0.0)).then_some(()) };
    eventually(TIMEOUT, "the metrics show no backlog", empty)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_second_signal_aborts_the_graceful_shutdown() {
    let system = helpers::start().await;
    // The table is locked, so that the request cannot end.
    let lock = Session::open(&system.database_url, "begin; lock table books");
    let lock = lock.await.unwrap();
    let request = http()
        .unwrap()
        .get(format!("{}/books/1", system.bookapp.url))
        .send();
    let (response, ()) = tokio::join!(request, async {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        wait_until_counted(&system, waiting).await;
        system.bookapp.process.signal(Signal::SIGTERM);
        let received = |line: &str| line.contains("SIGTERM received").then_some(());
        system.bookapp.process.line(SOON, received).await.unwrap();
        assert!(
            system.bookapp.process.is_running(),
            "the service waits for the request"
        );
        system.bookapp.process.signal(Signal::SIGTERM);
    });
    response.unwrap_err();
    let status = system.bookapp.process.wait(SOON).await.unwrap();
    assert_eq!(
        status.code(),
        Some(1),
        "an aborted shutdown exits with 1, not 0"
    );
    drop(lock);
}

/// Waits until a count query returns more than zero.
async fn wait_until_counted(system: &System, query: &str) {
    let counted = async || query_number(&system.database_url, query).await.unwrap() > 0;
    eventually(SOON, query, || async { counted().await.then_some(()) })
        .await
        .unwrap();
}

async fn add_many(system: &System, books: usize) {
    let books: Vec<_> = (0..books)
        .map(|_| json!({"title": "T", "author": "A"}))
        .collect();
    let url = format!("{}/books/bulk_add", system.bookapp.url);
    let response = http().unwrap().post(url).json(&books).send().await.unwrap();
    assert_eq!(response.status(), 201);
}

/// Returns the number of books in addition to the 92 seeded ones.
async fn books(system: &System) -> i64 {
    query_number(&system.database_url, "select count(*) - 92 from books")
        .await
        .unwrap()
}

async fn details(system: &System) -> i64 {
    query_number(&system.database_url, "select count(*) from book_details")
        .await
        .unwrap()
}

fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap()
}
