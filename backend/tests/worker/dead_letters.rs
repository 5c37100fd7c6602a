//! Tests of dead letters: they are sent once Kafka accepts them, and people list, show, replay and discard
//! them with commands.

use std::collections::BTreeSet;

use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER, BookEvent};
use opentelemetry::trace::{TraceContextExt, TraceId};
use rdkafka::{Message, message::Headers as _};
use serde_json::Value;
use telemetry_common::{
    kafka,
    testing::{self, Spans},
};
use testbed::{
    eventually,
    postgres::{Postgres, execute},
};

use crate::helpers::{
    SOON, TestWorker, kafka, spawn_worker, spawn_worker_on, spawn_worker_with, wait_for_log,
};

/// What makes a message a dead letter.
enum Cause {
    Value(Option<Vec<u8>>),
    Fault(&'static str),
    Database,
}

impl TestWorker {
    /// Runs a command that succeeds. Returns what it printed, line by line.
    async fn run(&self, args: &[&str]) -> Vec<Value> {
        let (code, stdout, stderr) = self.dead_letters(args).await;
        assert_eq!(code, Some(0), "{stderr}");
        let lines = stdout.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    async fn list(&self) -> Vec<Value> {
        self.run(&["list", "--json"]).await
    }

    async fn wait_for_letters(&self, count: i64) {
        let sent = || async {
            (self.kafka.count(BOOK_EVENTS_DEAD_LETTER).unwrap() == count).then_some(())
        };
        eventually(SOON, "the dead letters are sent", sent)
            .await
            .unwrap();
    }
}

// proves: N2
#[tokio::test]
async fn a_dead_letter_of_each_kind_is_listed_shown_replayed_and_discarded() {
    let causes = [
        ("bad_json", Cause::Value(Some(b"{\"book_id\":".to_vec()))),
        ("bad_utf8", Cause::Value(Some(b"\xff\xfe".to_vec()))),
        ("too_large", Cause::Value(Some(vec![b' '; 70_000]))),
        ("null_value", Cause::Value(None)),
        (
            "unknown_version",
            Cause::Value(Some(b"{\"schema_version\":2}".to_vec())),
        ),
        ("injected", Cause::Fault("error")),
        ("panic", Cause::Fault("panic")),
        ("database", Cause::Database),
    ];
    for (reason, cause) in causes {
        let worker = spawn_failing_worker(&cause).await;
        let ((), spans) = testing::spans_of(async {
            if let Cause::Value(value) = &cause {
                worker.send_bad(value.as_deref()).await;
            } else {
                let event = BookEvent::added(7, "load-42".to_owned());
                worker.publish(&event).await;
            }
        })
        .await;
        worker.wait_for_letters(1).await;
        let id = is_listed(&worker, reason).await;
        is_shown(&worker, &id, &cause, &spans).await;
        is_replayed_once_and_discarded(&worker, &id).await;
        let create = spans.named("create book.events.v1").span_context.span_id();
        for message in worker.kafka.messages(BOOK_EVENTS, 2).await.unwrap() {
            let created = kafka::extract(&message).span().span_context().clone();
            assert_eq!(created.span_id(), create);
            let mut headers = message.headers().unwrap().iter();
            assert!(headers.all(|header| !header.key.starts_with("dead-letter-")));
        }
        worker.finish().await;
    }
}

/// Starts a worker that fails to process a message of this kind.
async fn spawn_failing_worker(cause: &Cause) -> TestWorker {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    // The number of rules tells the log record of this worker from those of the others in this process.
    let rules = match cause {
        Cause::Fault("panic") => 6,
        Cause::Fault(_) => 5,
        Cause::Value(_) | Cause::Database => 0,
    };
    if let Cause::Fault(kind) = cause {
        let rule = format!(
            "insert into fault_rules (service, endpoint_pattern, http_method, kind, error_rate)
             select 'backend', topic, 'PROCESS', '{kind}', 1
             from unnest(array['{BOOK_EVENTS}'] || array(
                select '/' || number from generate_series(2, {rules}) number)) topic"
        );
        execute(&database_url, &rule).await.unwrap();
    }
    let worker = spawn_worker_on(database_url).await;
    if rules > 0 {
        let loaded = format!("{rules} fault rules loaded");
        wait_for_log("bookapp.faults.changed", &loaded).await;
    }
    if let Cause::Database = cause {
        // 23514 is check_violation, a permanent error.
        worker.reject_details("23514", "7").await;
    }
    worker
}

/// Checks that the only dead letter is listed, by the filters too. Returns its id.
async fn is_listed(worker: &TestWorker, reason: &str) -> String {
    let [letter] = &worker.list().await[..] else {
        panic!("expected one dead letter of {reason}")
    };
    assert_eq!(letter["reason"], reason);
    assert_eq!(letter["key"], "7");
    for (selected, filter) in [
        (1, ["--reason", reason]),
        (0, ["--reason", "other"]),
        (1, ["--key", "7"]),
        (0, ["--key", "8"]),
        (1, ["--since", "1h"]),
        (0, ["--until", "1h"]),
    ] {
        let args = [&["list", "--json"][..], &filter].concat();
        assert_eq!(worker.run(&args).await.len(), selected, "{filter:?}");
    }
    letter["id"].as_str().unwrap().to_owned()
}

/// Checks that a dead letter is shown with its value, and leads to the traces of its creation and of the
/// attempt that failed.
async fn is_shown(worker: &TestWorker, id: &str, cause: &Cause, spans: &Spans) {
    let (_, shown, _) = worker.dead_letters(&["show", id]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let spans = spans.wait_for("process book.events.v1").await;
    let failed = spans.all_named("process book.events.v1").pop().unwrap();
    let create = spans.named("create book.events.v1");
    for (trace, span) in [("created_in", create), ("failed_in", failed)] {
        assert_eq!(shown[trace], span.span_context.trace_id().to_string());
    }
    if let Cause::Value(value) = cause {
        match value.as_deref().map(str::from_utf8).transpose() {
            Ok(text) => assert_eq!(shown["value"].as_str(), text),
            Err(_) => assert_eq!(shown["value_hex"], "fffe"),
        }
    }
}

/// Checks that a dead letter is replayed once. It fails again, and the second dead letter is discarded.
async fn is_replayed_once_and_discarded(worker: &TestWorker, id: &str) {
    let planned = worker.run(&["replay", id, "--dry-run", "--json"]).await;
    assert_eq!(planned[0]["outcome"], Value::Null);
    assert_eq!(worker.kafka.count(BOOK_EVENTS).unwrap(), 1);
    for replayed in [1, 0] {
        let lines = worker.run(&["replay", id, "--json"]).await;
        assert_eq!(lines.len(), replayed);
        assert_eq!(worker.kafka.count(BOOK_EVENTS).unwrap(), 2);
    }
    worker.wait_for_letters(2).await;
    worker.run(&["discard", "--all", "--json"]).await;
    assert!(worker.list().await.is_empty());
    let handled = worker.run(&["list", "--handled", "--json"]).await;
    let outcomes = handled.iter().map(|letter| letter["outcome"].as_str());
    let outcomes: BTreeSet<_> = outcomes.collect();
    assert_eq!(outcomes, [Some("discarded"), Some("replayed")].into());
}

#[tokio::test]
async fn a_replayed_message_is_processed() {
    let worker = spawn_worker().await;
    worker.reject_details("23514", "1").await;
    worker
        .publish(&BookEvent::added(1, "load-42".to_owned()))
        .await;
    worker.wait_for_letters(1).await;
    worker.accept_details().await;
    worker
        .run(&["replay", "--reason", "database", "--json"])
        .await;
    worker.wait_for_rows("book_details", 1).await;
    worker.finish().await;
}

#[tokio::test]
async fn a_command_without_a_selection_or_with_an_unknown_id_fails() {
    let worker = spawn_worker().await;
    for (args, code, message) in [
        (
            &["replay"][..],
            2,
            "error: the following required arguments were not provided",
        ),
        (
            &["discard"],
            2,
            "error: the following required arguments were not provided",
        ),
        (
            &["list", "--since", "yesterday"],
            2,
            "expected a time such as",
        ),
        (&["show", "unknown"], 1, "there is no dead letter unknown"),
    ] {
        let (exit, stdout, stderr) = worker.dead_letters(args).await;
        assert_eq!(exit, Some(code), "{args:?}: {stderr}");
        assert!(
            format!("{stdout}{stderr}").contains(message),
            "{stdout}{stderr}"
        );
    }
    worker.finish().await;
}

#[tokio::test]
async fn while_its_topic_is_unavailable_a_dead_letter_waits_and_is_logged_once() {
    let worker = spawn_worker().await;
    worker
        .kafka
        .set_unavailable(BOOK_EVENTS_DEAD_LETTER, true)
        .unwrap();
    let ((), spans) = testing::spans_of(worker.send_bad(Some(b"{"))).await;
    // The keys of these books are on all partitions.
    for book in 2..=12 {
        worker
            .publish(&BookEvent::added(book, "good".to_owned()))
            .await;
    }
    let others = || async { (worker.count("book_details").await > 0).then_some(()) };
    eventually(SOON, "another partition goes on", others)
        .await
        .unwrap();
    let twice = || async {
        let spans = spans.refreshed();
        let sends = spans.all_named("send book.events.v1.dead-letter");
        (sends.len() >= 2).then_some(())
    };
    eventually(SOON, "the dead letter is sent again", twice)
        .await
        .unwrap();
    assert_eq!(worker.count("book_details where book_id = 7").await, 0);
    worker
        .kafka
        .set_unavailable(BOOK_EVENTS_DEAD_LETTER, false)
        .unwrap();
    worker.wait_for_rows("book_details", 11).await;
    let [letter] = &worker.list().await[..] else {
        panic!("expected one dead letter")
    };
    assert_eq!(letter["attempts"], "1");
    let trace = TraceId::from_hex(letter["failed_in"].as_str().unwrap()).unwrap();
    let logs = testing::logs_of(trace);
    assert_eq!(
        logs.len(),
        2,
        "one of the failure, and one of the dead letter: {logs:?}"
    );
    let failed = testing::events("bookapp.dead_letter.failed");
    let mut outside = failed
        .iter()
        .filter(|log| log.record.trace_context().is_none());
    assert!(outside.next().is_none(), "later attempts are not logged");
    worker.finish().await;
}

#[tokio::test]
async fn after_a_fatal_error_the_producer_is_replaced() {
    let kafka = kafka();
    kafka.refuse_next_producer();
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    let worker = spawn_worker_with(database_url, kafka).await;
    worker.send_bad(Some(b"{")).await;
    worker.wait_for_letters(1).await;
    worker.finish().await;
}
