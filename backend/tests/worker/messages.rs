//! What becomes of a message: an effect once, or a dead letter.

use backend::consumer::replay;
use book_events::{BOOK_ADDED, BookAdded, PARTITIONS};
use opentelemetry::{
    Value,
    trace::{Status, TraceContextExt},
};
use opentelemetry_sdk::logs::in_memory_exporter::LogDataWithResource;
use rdkafka::{Message, message::Headers as _};
use sqlx::AssertSqlSafe;
use telemetry_common::{
    kafka,
    testing::{self, attribute},
};
use testbed::eventually;
use tokio_util::sync::CancellationToken;

use crate::helpers::{SOON, TestWorker, spawn_worker};

// proves: B9 B10
#[tokio::test]
async fn an_event_delivered_twice_has_one_effect() {
    let worker = spawn_worker().await;
    let event = BookAdded::now(1, "load-42".to_owned());
    worker.announce(&event).await;
    worker.announce(&event).await;
    // Same key, same partition: this one comes after both.
    worker
        .announce(&BookAdded::now(2, "load-43".to_owned()))
        .await;
    worker.holds("book_details", 2).await;
    assert_eq!(worker.count("ledger").await, 2);
    worker.finish().await;
}

#[tokio::test]
async fn a_book_that_is_gone_is_skipped() {
    let worker = spawn_worker().await;
    worker
        .announce(&BookAdded::now(4711, "load-42".to_owned()))
        .await;
    worker
        .announce(&BookAdded::now(1, "load-43".to_owned()))
        .await;
    // Of two partitions, so in no order: both are done, not failed.
    worker.holds("ledger", 2).await;
    worker.holds("book_details", 1).await;
    worker.finish().await;
}

// proves: N2
#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_and_the_next_one_is_processed() {
    for (value, reason) in [
        (Some(&b"{\"book_id\":"[..]), "bad_json"),
        (Some(b"\xff\xfe"), "bad_utf8"),
        (Some(&vec![b' '; 70_000]), "too_large"),
        (None, "null_value"),
        (Some(b"{\"schema_version\":2}"), "unknown_version"),
    ] {
        let worker = spawn_worker().await;
        let ((), spans) = testing::spans_of(worker.send_bad(value)).await;
        let letter = worker.dead_letter().await;
        assert_eq!(letter.payload(), value);
        assert_eq!(letter.key(), Some(&b"7"[..]));
        let headers: Vec<_> = letter.headers().unwrap().iter().collect();
        let header = |key| {
            let found: Vec<_> = headers.iter().filter(|header| header.key == key).collect();
            assert_eq!(found.len(), 1, "{key}");
            String::from_utf8(found[0].value.unwrap().to_vec()).unwrap()
        };
        assert_eq!(header("dead-letter-reason"), reason);
        assert_eq!(header("dead-letter-attempts"), "1");
        assert!(header("dead-letter-origin").starts_with("book.added.v1/"));
        assert_eq!(header("mark"), "kept");
        let create = spans.named("create book.added.v1").span_context.clone();
        let carried = kafka::extract(&letter).span().span_context().span_id();
        assert_eq!(
            carried,
            create.span_id(),
            "the trace it was created in, once"
        );
        assert!(header("traceparent").contains(&create.trace_id().to_string()));

        let spans = spans.once_ended("process book.added.v1").await;
        let process = spans.named("process book.added.v1");
        assert_eq!(process.links[0].span_context.span_id(), create.span_id());
        assert!(matches!(process.status, Status::Error { .. }));
        assert_eq!(attribute(process, "error.type"), Some(&reason.into()));
        let send = spans.named("send book.added.v1.dead-letter");
        let links: Vec<_> = send
            .links
            .iter()
            .map(|link| link.span_context.span_id())
            .collect();
        assert_eq!(links, [create.span_id(), process.span_context.span_id()]);
        let logs = testing::logs_of(process.span_context.trace_id());
        let errors = logs
            .iter()
            .filter(|log| log.record.severity_text() == Some("ERROR"));
        assert_eq!(errors.count(), 1);

        worker
            .announce(&BookAdded::now(1, "load-42".to_owned()))
            .await;
        worker.holds("book_details", 1).await;
        worker.finish().await;
    }
}

// proves: N2
#[tokio::test]
async fn while_the_database_cannot_the_message_waits() {
    let worker = spawn_worker().await;
    // 55P03 is lock_not_available: a trouble that passes.
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'later' using errcode = '55P03'; end $$;
         create trigger refuse before insert on ledger execute function refuse();",
    )
    .execute(&worker.pool)
    .await
    .unwrap();
    let event = BookAdded::now(1, "load-42".to_owned());
    let ((), spans) = testing::spans_of(worker.announce(&event)).await;
    let spans = spans.once_ended("process book.added.v1").await;
    let attempt = spans.all_named("process book.added.v1")[0];
    assert!(matches!(attempt.status, Status::Error { .. }));
    assert_eq!(
        attribute(attempt, "telemetry.messaging.attempt"),
        Some(&Value::I64(1))
    );
    let failed = spans.all_named("INSERT ledger")[0];
    assert_eq!(attribute(failed, "error.type"), Some(&"55P03".into()));
    assert_eq!(worker.count("book_details").await, 0);
    sqlx::raw_sql("drop trigger refuse on ledger")
        .execute(&worker.pool)
        .await
        .unwrap();
    worker.holds("book_details", 1).await;
    let spans = spans.again();
    let mut attempts: Vec<_> = spans
        .all_named("process book.added.v1")
        .iter()
        .map(|span| {
            attribute(span, "telemetry.messaging.attempt")
                .unwrap()
                .to_string()
        })
        .collect();
    attempts.sort_by_key(|attempt| attempt.parse::<u32>().unwrap());
    let expected: Vec<_> = (1..=attempts.len())
        .map(|attempt| attempt.to_string())
        .collect();
    assert_eq!(attempts, expected);
    let trace = spans.all_named("process book.added.v1")[0]
        .span_context
        .trace_id();
    let logs = testing::logs_of(trace);
    let warnings = logs
        .iter()
        .filter(|log| log.record.severity_text() == Some("WARN"));
    let carries_id = |log: &&LogDataWithResource| format!("{:?}", log.record).contains("load-42");
    assert_eq!(
        warnings.filter(carries_id).count(),
        1,
        "a failure carries the request's id"
    );
    assert!(attempts.len() >= 2);
    worker.finish().await;
}

#[tokio::test]
async fn while_one_partition_waits_the_others_go_on() {
    let worker = spawn_worker().await;
    refuse(&worker, "55P03", "1").await;
    worker
        .announce(&BookAdded::now(1, "waits".to_owned()))
        .await;
    // Keys of all partitions; those on book 1's own partition wait behind it.
    for id in 2..=30 {
        worker
            .announce(&BookAdded::now(id, "goes on".to_owned()))
            .await;
    }
    let most = || async { (worker.count("book_details").await >= 15).then_some(()) };
    eventually(SOON, "the other partitions go on", most)
        .await
        .unwrap();
    assert_eq!(worker.count("book_details where book_id = 1").await, 0);
    relent(&worker).await;
    worker.holds("book_details", 30).await;
    worker.finish().await;
}

// proves: N2
#[tokio::test]
async fn a_dead_letter_can_be_replayed_its_chain_intact() {
    let worker = spawn_worker().await;
    // 23514 is check_violation: no other try would go well.
    refuse(&worker, "23514", "1").await;
    let event = BookAdded::now(1, "load-42".to_owned());
    let ((), spans) = testing::spans_of(worker.announce(&event)).await;
    let create = spans.named("create book.added.v1").span_context.span_id();
    worker.dead_letter().await;
    relent(&worker).await;

    let stop = CancellationToken::new();
    replay(worker.config(), true, stop.clone()).await.unwrap();
    assert_eq!(
        worker.kafka.count(BOOK_ADDED, PARTITIONS).unwrap(),
        1,
        "it was only listed"
    );
    for _ in 0..2 {
        // The second time there is nothing left to replay.
        replay(worker.config(), false, stop.clone()).await.unwrap();
        assert_eq!(worker.kafka.count(BOOK_ADDED, PARTITIONS).unwrap(), 2);
    }
    worker.holds("book_details", 1).await;
    let [_, replayed] = &worker.kafka.messages(BOOK_ADDED, 2).await.unwrap()[..] else {
        panic!()
    };
    let headers: Vec<_> = replayed
        .headers()
        .unwrap()
        .iter()
        .map(|header| header.key)
        .collect();
    assert_eq!(headers, ["traceparent"]);
    assert_eq!(
        kafka::extract(replayed).span().span_context().span_id(),
        create
    );
    worker.finish().await;
}

/// Lets the database refuse the details of one book, with this SQLSTATE.
async fn refuse(worker: &TestWorker, sqlstate: &str, book_id: &str) {
    let trigger = format!(
        "create function refuse() returns trigger language plpgsql as
         $$ begin if new.book_id = {book_id} then
            raise exception 'refused' using errcode = '{sqlstate}';
         end if; return new; end $$;
         create trigger refuse before insert on book_details
         for each row execute function refuse();"
    );
    sqlx::raw_sql(AssertSqlSafe(trigger))
        .execute(&worker.pool)
        .await
        .unwrap();
}

async fn relent(worker: &TestWorker) {
    sqlx::raw_sql("drop trigger refuse on book_details")
        .execute(&worker.pool)
        .await
        .unwrap();
}

// proves: L21 B13
#[tokio::test]
async fn the_request_s_id_is_on_the_worker_s_log() {
    let worker = spawn_worker().await;
    let event = BookAdded::now(1, "load-42".to_owned());
    let ((), spans) = testing::spans_of(worker.announce(&event)).await;
    let spans = spans.once_ended("process book.added.v1").await;
    let process = spans.named("process book.added.v1");
    let logs = testing::logs_of(process.span_context.trace_id());
    let [log] = &logs[..] else {
        panic!("one line a book, not {logs:?}")
    };
    let id = log
        .record
        .attributes_iter()
        .find(|(key, _)| key.as_str() == "telemetry.request.id")
        .map(|(_, id)| format!("{id:?}"));
    assert!(id.unwrap().contains("load-42"));
    worker.finish().await;
}
