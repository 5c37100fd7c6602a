//! Tests of the outbox: the event of each change of a book is published with its trace, even if Kafka
//! fails.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use book_events::{BOOK_EVENTS, BookEvent, Change};
use opentelemetry::{
    baggage::BaggageExt,
    trace::{Status, TraceContextExt},
};
use rdkafka::{Message, message::Headers as _};
use serde_json::json;
use telemetry_common::{
    kafka,
    testing::{self, attribute},
};
use testbed::{
    eventually,
    kafka::{Kafka, PARTITIONS},
    postgres::{Postgres, execute},
};

use crate::helpers::{SOON, spawn_app, spawn_app_on};

/// The time limit of the relay for the broker's acknowledgement.
const SEND_TIMEOUT: Duration = Duration::from_secs(4);

// proves: B1 B8 N1
#[tokio::test]
async fn each_change_of_a_book_is_announced_in_order_with_its_trace() {
    let app = spawn_app().await;
    let (id, added) = testing::spans_of(app.add_book("Emma", "Jane Austen")).await;
    let path = format!("/books/{id}");
    let (_, changed) = testing::spans_of(app.patch(&path, &json!({"title": "Emma!"}))).await;
    let (_, removed) = testing::spans_of(app.delete(&path)).await;
    let messages = app.published(3).await;
    let events: Vec<_> = messages
        .iter()
        .map(|message| BookEvent::decode(message.payload()).unwrap())
        .collect();
    for (event, (change, version)) in events.iter().zip([
        (Change::Added, 1),
        (Change::Changed, 2),
        (Change::Removed, 3),
    ]) {
        assert_eq!(event.event_type, change);
        assert_eq!((event.book_id, event.book_version), (id, version));
    }
    for (message, spans) in messages.iter().zip([added, changed, removed]) {
        assert_eq!(message.key(), Some(id.to_string().as_bytes()));
        let headers = message.headers().unwrap().iter().map(|header| header.key);
        assert_eq!(headers.collect::<Vec<_>>(), ["content-type", "traceparent"]);
        let spans = spans.wait_for("send book.events.v1").await;
        let create = &spans.named("create book.events.v1").span_context;
        let carried = kafka::extract(message).span().span_context().clone();
        assert_eq!(
            carried.span_id(),
            create.span_id(),
            "the message carries the context of the create span"
        );
        let send = spans.named("send book.events.v1");
        assert_eq!(send.links[0].span_context.span_id(), create.span_id());
        assert_ne!(
            send.span_context.trace_id(),
            create.trace_id(),
            "sending has its own trace"
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn a_change_without_its_event_does_not_happen() {
    let app = spawn_app().await;
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'refused'; end $$;
         create trigger refuse before insert on outbox execute function refuse();",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let changed = app.patch("/books/1", &json!({"title": "Changed"})).await;
    let removed = app.delete("/books/2").await;
    assert_eq!([changed.status(), removed.status()], [500, 500]);
    let left = "books where version > 1 or id = 2";
    assert_eq!(app.count(left).await, 1, "nothing was changed or removed");
    assert_eq!(
        app.patch("/books/4711", &json!({"title": "T"}))
            .await
            .status(),
        404
    );
    app.finish().await;
}

#[tokio::test]
async fn the_caller_s_baggage_travels_with_the_message() {
    let app = spawn_app().await;
    let book = json!({"title": "Emma", "author": "Jane Austen"});
    let request = reqwest::Client::builder()
        .timeout(SOON)
        .build()
        .unwrap()
        .post(format!("{}/books/add", app.url))
        .header("baggage", "synthetic=true")
        .json(&book);
    request.send().await.unwrap().error_for_status().unwrap();
    let [message] = &app.published(1).await[..] else {
        panic!("expected one message")
    };
    let baggage = kafka::extract(message).baggage().get("synthetic").cloned();
    assert_eq!(baggage.unwrap().as_str(), "true");
    app.finish().await;
}

#[tokio::test]
async fn the_response_does_not_wait_for_kafka_and_nothing_is_lost() {
    let app = spawn_app().await;
    app.kafka.stop_broker(1).unwrap();
    let started = Instant::now();
    let first = app.add_book("Emma", "Jane Austen").await;
    let second = app.add_book("Persuasion", "Jane Austen").await;
    assert!(started.elapsed() < SEND_TIMEOUT, "{:?}", started.elapsed());
    assert_eq!(app.count("outbox where published_at is null").await, 2);
    app.kafka.restart_broker(1).unwrap();
    let mut published: Vec<i32> = app
        .published(2)
        .await
        .iter()
        .map(|message| BookEvent::decode(message.payload()).unwrap().book_id)
        .collect();
    published.sort_unstable();
    assert_eq!(published, [first, second]);
    app.finish().await;
}

#[tokio::test]
async fn a_row_waits_until_the_broker_has_acknowledged_it() {
    let app = spawn_app().await;
    app.kafka.stop_broker(1).unwrap();
    let (_, spans) = testing::spans_of(app.add_book("Emma", "Jane Austen")).await;
    // The first batch fails after the time limit for the broker's acknowledgement.
    let spans = spans.wait_for("send book.events.v1").await;
    let send = spans.named("send book.events.v1");
    assert!(matches!(send.status, Status::Error { .. }));
    assert_eq!(
        attribute(send, "error.type"),
        Some(&"MessageTimedOut".into())
    );
    // The batch around this attempt, which is in another trace.
    let failed = || async {
        let waits = testing::events("bookapp.outbox.messages.wait");
        waits.iter().find_map(|wait| {
            let relay = testing::Spans::of(wait.record.trace_context()?.trace_id);
            let batch = relay.all_named("outbox.relay").first().copied()?.clone();
            let is_around = batch.start_time <= send.start_time && send.end_time <= batch.end_time;
            is_around.then_some(batch)
        })
    };
    let batch = eventually(SOON, "the relay reports it", failed)
        .await
        .unwrap();
    assert!(matches!(batch.status, Status::Error { .. }));
    assert_eq!(attribute(&batch, "error.type"), Some(&"unsent".into()));
    assert_eq!(app.count("outbox where published_at is null").await, 1);
    app.kafka.restart_broker(1).unwrap();
    app.published(1).await;
    app.finish().await;
}

#[tokio::test]
async fn a_message_that_can_never_be_sent_is_quarantined() {
    let app = spawn_app().await;
    app.kafka.reject_next(1);
    app.add_book("Emma", "Jane Austen").await;
    let quarantined =
        "outbox where set_aside_reason like '%too large%' and set_aside_at is not null";
    eventually(SOON, "the message is quarantined", || async {
        (app.count(quarantined).await == 1).then_some(())
    })
    .await
    .unwrap();
    let next = app.add_book("Persuasion", "Jane Austen").await;
    let [message] = &app.published(1).await[..] else {
        panic!("expected one message")
    };
    assert_eq!(BookEvent::decode(message.payload()).unwrap().book_id, next);
    let counted = testing::sum_of("bookapp.outbox.quarantined");
    assert!((counted - 1.0).abs() < 0.1, "{counted}");
    sqlx::query("delete from outbox where set_aside_at is not null")
        .execute(&app.pool)
        .await
        .unwrap();
    app.finish().await;
}

#[tokio::test]
async fn sent_messages_are_pruned_also_while_others_cannot_be_sent() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    let kafka = Kafka::start(&[BOOK_EVENTS]).unwrap();
    kafka.stop_broker(1).unwrap();
    execute(
        &database_url,
        "insert into outbox (event_id, topic, key, payload, headers, published_at)
         select 'old-' || n, 't', 'k', '{}', '{}', now() - interval '25 hours' from generate_series(1, 25000) n;
         insert into outbox (event_id, topic, key, payload, headers, published_at)
         values ('new', 't', 'k', '{}', '{}', now() - interval '23 hours');
         insert into outbox (event_id, topic, key, payload, headers)
         values ('waits', 'book.events.v1', 'k', '{}', '{}')",
    )
    .await
    .unwrap();
    let app = spawn_app_on(database_url, Rc::new(kafka), &[]).await;
    eventually(SOON, "the old messages are pruned", async || {
        (app.count("outbox").await == 2).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(app.count("outbox where published_at is null").await, 1);
    app.kafka.restart_broker(1).unwrap();
    app.published(1).await;
    app.finish().await;
}

#[tokio::test]
async fn the_next_message_of_a_book_is_sent_after_the_last_one_is_acknowledged() {
    let app = spawn_app().await;
    let (_, spans) = testing::spans_of(app.add_book("Emma", "Jane Austen")).await;
    // More messages of this book, and of this trace.
    execute(
        &app.database_url,
        "insert into outbox (event_id, topic, key, payload, headers)
         select gen_random_uuid(), topic, key, payload, headers from outbox, generate_series(1, 5)",
    )
    .await
    .unwrap();
    let sent = || async {
        let spans = spans.refreshed();
        (spans.all_named("send book.events.v1").len() == 6).then_some(spans)
    };
    let spans = eventually(SOON, "six messages are sent", sent)
        .await
        .unwrap();
    let mut sends = spans.all_named("send book.events.v1");
    sends.sort_by_key(|send| send.start_time);
    assert!(
        sends
            .windows(2)
            .all(|pair| pair[0].end_time <= pair[1].start_time)
    );
    app.finish().await;
}

#[tokio::test]
async fn a_message_that_fails_holds_up_its_own_key_alone() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    let kafka = Kafka::start_with_brokers(2, &[BOOK_EVENTS]).unwrap();
    kafka.set_leader(BOOK_EVENTS, 0, 2).unwrap();
    for partition in 1..PARTITIONS {
        kafka.set_leader(BOOK_EVENTS, partition, 1).unwrap();
    }
    let app = spawn_app_on(database_url, Rc::new(kafka), &[]).await;
    for _ in 0..12 {
        app.add_book("Emma", "Jane Austen").await;
    }
    let messages = app.published(12).await;
    let key_on = |is_first: bool| {
        let mut on = messages
            .iter()
            .filter(|message| (message.partition() == 0) == is_first);
        let message = on.next().expect("the messages are on all partitions");
        String::from_utf8(message.key().unwrap().to_vec()).unwrap()
    };
    let (failing, other) = (key_on(true), key_on(false));
    let insert = async |key: &str| {
        let insert = "insert into outbox (event_id, topic, key, payload, headers)
            values (gen_random_uuid(), 'book.events.v1', $1, '{}', '{}') returning id";
        let row: i64 = sqlx::query_scalar(insert)
            .bind(key)
            .fetch_one(&app.pool)
            .await
            .unwrap();
        row
    };
    app.kafka.stop_broker(2).unwrap();
    insert(&failing).await;
    // In a batch with the failing message, each message takes as long as the time limit for it.
    let quick = || async {
        let row = insert(&other).await;
        let sent = || async {
            let sent = format!("outbox where id = {row} and published_at - created_at < '3 s'");
            let done = format!("outbox where id = {row} and published_at is not null");
            (app.count(&done).await == 1).then_some(app.count(&sent).await == 1)
        };
        let is_quick = eventually(SOON, "the message is sent", sent).await.unwrap();
        is_quick.then_some(())
    };
    eventually(SOON, "a message does not wait for the failing one", quick)
        .await
        .unwrap();
    assert_eq!(app.count("outbox where published_at is null").await, 1);
    app.kafka.restart_broker(2).unwrap();
    app.finish().await;
}

#[tokio::test]
async fn sent_rows_go_when_their_time_is_over() {
    let first = spawn_app().await;
    first.add_book("Emma", "Jane Austen").await;
    first.add_book("Persuasion", "Jane Austen").await;
    let (database_url, kafka) = (first.database_url.clone(), first.kafka.clone());
    first.published(2).await;
    let pool = first.pool.clone();
    first.finish().await;
    sqlx::query("update outbox set published_at = now() - interval '2 h' where id = 1")
        .execute(&pool)
        .await
        .unwrap();
    let app = spawn_app_on(database_url, kafka, &["--outbox-retention=1h"]).await;
    let one_left = || async { (app.count("outbox").await == 1).then_some(()) };
    eventually(SOON, "the old row is removed", one_left)
        .await
        .unwrap();
    app.finish().await;
}
