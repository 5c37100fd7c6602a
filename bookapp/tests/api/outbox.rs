//! What is added is announced, with its trace, whatever Kafka does meanwhile.

use std::time::{Duration, Instant};

use book_events::BookAdded;
use opentelemetry::trace::TraceContextExt;
use rdkafka::{Message, message::Headers as _};
use telemetry_common::{kafka, testing};

use crate::helpers::spawn_app;

#[tokio::test]
async fn adding_a_book_announces_it_with_its_trace() {
    let app = spawn_app().await;
    let (id, spans) = testing::spans_of(app.add_book("Emma", "Jane Austen")).await;
    let [message] = &app.announced(1).await[..] else {
        panic!("one announcement")
    };
    assert_eq!(message.key(), Some(id.to_string().as_bytes()));
    let event = BookAdded::decode(message.payload()).unwrap();
    assert_eq!(event.book_id, id);
    let headers: Vec<_> = message
        .headers()
        .unwrap()
        .iter()
        .map(|header| header.key)
        .collect();
    assert_eq!(headers, ["content-type", "traceparent"]);

    let spans = spans.once_ended("outbox.relay").await;
    let create = &spans.named("create book.added.v1").span_context;
    let carried = kafka::extract(message).span().span_context().clone();
    assert_eq!(
        carried.span_id(),
        create.span_id(),
        "the create's context, unchanged"
    );
    let send = spans.named("send book.added.v1");
    assert_eq!(send.links[0].span_context.span_id(), create.span_id());
    assert_ne!(
        send.span_context.trace_id(),
        create.trace_id(),
        "its work is its own trace"
    );
    app.finish().await;
}

#[tokio::test]
async fn the_answer_does_not_wait_for_kafka_and_nothing_is_lost() {
    let app = spawn_app().await;
    app.kafka.take_away().unwrap();
    let started = Instant::now();
    let first = app.add_book("Emma", "Jane Austen").await;
    let second = app.add_book("Persuasion", "Jane Austen").await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(app.count("outbox where published_at is null").await, 2);
    app.kafka.bring_back().unwrap();
    let mut announced: Vec<i32> = app
        .announced(2)
        .await
        .iter()
        .map(|message| BookAdded::decode(message.payload()).unwrap().book_id)
        .collect();
    announced.sort_unstable();
    assert_eq!(announced, [first, second]);
    app.finish().await;
}
