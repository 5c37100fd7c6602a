//! Tests of message processing: a message has exactly one effect, or becomes a dead letter.

use std::time::{Duration, Instant};

use book_events::BookEvent;
use opentelemetry::{
    KeyValue, Value,
    trace::{Status, TraceContextExt},
};
use opentelemetry_sdk::logs::in_memory_exporter::LogDataWithResource;
use rdkafka::{Message, message::Headers as _};
use telemetry_common::{
    kafka,
    testing::{self, attribute},
};
use testbed::{
    eventually,
    postgres::{Postgres, execute},
};

use crate::helpers::{SOON, spawn_worker, spawn_worker_on, wait_for_log};

// proves: B9 B10
#[tokio::test]
async fn an_event_delivered_twice_has_one_effect() {
    let worker = spawn_worker().await;
    worker.check_details("").await;
    let event = BookEvent::added(1, "load-42".to_owned());
    let ((), spans) = testing::spans_of(async {
        worker.publish(&event).await;
        worker.publish(&event).await;
    })
    .await;
    let both = || async {
        let spans = spans.refreshed();
        (spans.all_named("process book.events.v1").len() == 2).then_some(())
    };
    eventually(SOON, "both messages are processed", both)
        .await
        .unwrap();
    assert_eq!(worker.count("effects").await, 1);
    assert_eq!(worker.count("ledger").await, 1);
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
        assert!(header("dead-letter-origin").starts_with("book.events.v1/"));
        assert_eq!(header("mark"), "kept");
        let create = spans.named("create book.events.v1").span_context.clone();
        let carried = kafka::extract(&letter).span().span_context().span_id();
        assert_eq!(
            carried,
            create.span_id(),
            "the dead letter carries the context of the create span"
        );
        assert!(header("traceparent").contains(&create.trace_id().to_string()));

        let spans = spans.wait_for("process book.events.v1").await;
        let process = spans.named("process book.events.v1");
        assert_eq!(process.links[0].span_context.span_id(), create.span_id());
        assert!(matches!(process.status, Status::Error { .. }));
        assert_eq!(attribute(process, "error.type"), Some(&reason.into()));
        let send = spans.named("send book.events.v1.dead-letter");
        let links: Vec<_> = send
            .links
            .iter()
            .map(|link| link.span_context.span_id())
            .collect();
        assert_eq!(links, [create.span_id(), process.span_context.span_id()]);
        let sending = send.end_time.duration_since(send.start_time).unwrap();
        let failed = KeyValue::new("error.type", reason);
        assert!(
            testing::sum("messaging.process.duration", &failed) >= sending.as_secs_f64(),
            "the duration of {reason} includes the dead letter"
        );
        let logs = testing::logs_of(process.span_context.trace_id());
        let errors = logs
            .iter()
            .filter(|log| log.record.severity_text() == Some("ERROR"));
        assert_eq!(errors.count(), 1);

        // The next message has the same key.
        let event = BookEvent::added(7, "load-42".to_owned());
        worker.publish(&event).await;
        worker.wait_for_rows("book_details", 1).await;
        worker.finish().await;
    }
}

/// The longest latency that a rule may have.
const LATENCY: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_slow_message_holds_up_its_own_partition_alone() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    // The number of rules tells the log records of this worker from those of the others in this process.
    execute(
        &database_url,
        "insert into fault_rules (service, endpoint_pattern, http_method, kind, error_rate, latency_ms)
         select 'backend', topic, 'PROCESS', 'latency', 1, 60000
         from unnest(array['book.events.v1', '/1', '/2', '/3']) topic",
    )
    .await
    .unwrap();
    let worker = spawn_worker_on(database_url).await;
    wait_for_log("bookapp.faults.changed", "4 fault rules loaded").await;
    worker
        .publish(&BookEvent::added(1, "slow".to_owned()))
        .await;
    wait_for_log("bookapp.fault.injected", "fault rule 1 injected: latency").await;
    let injected = Instant::now();
    sqlx::raw_sql("delete from fault_rules where endpoint_pattern = 'book.events.v1'")
        .execute(&worker.pool)
        .await
        .unwrap();
    wait_for_log("bookapp.faults.changed", "3 fault rules loaded").await;
    // The keys of these books are on all partitions.
    for book in 2..=12 {
        let event = BookEvent::added(book, "quick".to_owned());
        worker.publish(&event).await;
    }
    let others = || async { (worker.count("book_details").await > 0).then_some(()) };
    eventually(SOON / 2, "another partition goes on", others)
        .await
        .unwrap();
    assert_eq!(worker.get("/health/live").await.status(), 200);
    let is_done = worker.count("book_details where book_id = 1").await == 1;
    // A very busy machine may take a minute to come here.
    assert!(!is_done || injected.elapsed() >= LATENCY);
    worker.finish().await;
}

// proves: N2
#[tokio::test]
async fn while_the_database_cannot_the_message_waits() {
    let worker = spawn_worker().await;
    // 55P03 is lock_not_available, a transient error.
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'later' using errcode = '55P03'; end $$;
         create trigger refuse before insert on ledger execute function refuse();",
    )
    .execute(&worker.pool)
    .await
    .unwrap();
    let event = BookEvent::added(1, "load-42".to_owned());
    let ((), spans) = testing::spans_of(worker.publish(&event)).await;
    let spans = spans.wait_for("process book.events.v1").await;
    let attempt = spans.all_named("process book.events.v1")[0];
    assert!(matches!(attempt.status, Status::Error { .. }));
    assert_eq!(
        attribute(attempt, "telemetry_common.messaging.attempt"),
        Some(&Value::I64(1))
    );
    let failed = spans.all_named("INSERT ledger")[0];
    assert_eq!(attribute(failed, "error.type"), Some(&"55P03".into()));
    assert_eq!(worker.count("book_details").await, 0);
    sqlx::raw_sql("drop trigger refuse on ledger")
        .execute(&worker.pool)
        .await
        .unwrap();
    worker.wait_for_rows("book_details", 1).await;
    // The span of an attempt ends after its rows are visible.
    worker.finish().await;
    let spans = spans.refreshed();
    let mut attempts: Vec<_> = spans
        .all_named("process book.events.v1")
        .iter()
        .map(|span| {
            attribute(span, "telemetry_common.messaging.attempt")
                .unwrap()
                .to_string()
        })
        .collect();
    attempts.sort_by_key(|attempt| attempt.parse::<u32>().unwrap());
    let expected: Vec<_> = (1..=attempts.len())
        .map(|attempt| attempt.to_string())
        .collect();
    assert_eq!(attempts, expected);
    let trace = spans.all_named("process book.events.v1")[0]
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
        "the log record of the failure contains the request id"
    );
    assert!(attempts.len() >= 2);
}

#[tokio::test]
async fn while_one_partition_waits_the_others_go_on() {
    let worker = spawn_worker().await;
    worker.reject_details("55P03", "1").await;
    worker
        .publish(&BookEvent::added(1, "waits".to_owned()))
        .await;
    // The keys are on all partitions. The messages on the partition of book 1 wait behind its
    // message.
    for id in 2..=30 {
        worker
            .publish(&BookEvent::added(id, "goes on".to_owned()))
            .await;
    }
    let most_ingested = || async { (worker.count("book_details").await >= 15).then_some(()) };
    eventually(SOON, "the other partitions continue", most_ingested)
        .await
        .unwrap();
    assert_eq!(worker.count("book_details where book_id = 1").await, 0);
    worker.accept_details().await;
    worker.wait_for_rows("book_details", 30).await;
    worker.finish().await;
}

// proves: L21 B13
#[tokio::test]
async fn the_request_s_id_is_on_the_worker_s_log() {
    let worker = spawn_worker().await;
    let event = BookEvent::added(1, "load-42".to_owned());
    let ((), spans) = testing::spans_of(worker.publish(&event)).await;
    let spans = spans.wait_for("process book.events.v1").await;
    let process = spans.named("process book.events.v1");
    let logs = testing::logs_of(process.span_context.trace_id());
    let [log] = &logs[..] else {
        panic!("expected one log record per book: {logs:?}")
    };
    let id = log
        .record
        .attributes_iter()
        .find(|(key, _)| key.as_str() == "telemetry_common.request.id")
        .map(|(_, id)| format!("{id:?}"));
    assert!(id.unwrap().contains("load-42"));
    worker.finish().await;
}

#[tokio::test]
async fn the_ledger_is_pruned_by_age_also_when_it_is_large() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    execute(
        &database_url,
        "insert into ledger select 'old-' || n, now() - interval '31 days' from generate_series(1, 25000) n;
         insert into ledger values ('new', now() - interval '29 days')",
    )
    .await
    .unwrap();
    let worker = spawn_worker_on(database_url).await;
    eventually(SOON, "only the new id is left", async || {
        (worker.count("ledger").await == 1).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(worker.count("ledger where event_id = 'new'").await, 1);
    worker.finish().await;
}
