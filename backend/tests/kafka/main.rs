//! Tests of the worker on a real Kafka, for what librdkafka's mock cluster does not show: partitions that
//! change their worker, and the broker's limits. `cargo xtask kafka` runs them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "kafka-tls")]
mod tls;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use backend::{App, config::Config};
use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER, BookEvent};
use clap::Parser;
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    message::OwnedHeaders,
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use service_common::lifecycle::Shutdown;
use telemetry_common::{
    kafka::{Headers, create_span},
    testing::{self, Spans, attribute},
};
use tempfile::TempDir;
use testbed::{
    InProcess,
    broker::Broker,
    eventually,
    kafka::PARTITIONS,
    postgres::{Postgres, execute},
};

const SOON: Duration = Duration::from_mins(1);

/// A broker and a database for the workers of one test.
struct Kafka {
    broker: Broker,
    database_url: String,
    producer: FutureProducer,
    _data: TempDir,
}

impl Kafka {
    async fn start() -> Self {
        testing::install();
        let jars = std::env::var_os("KAFKA_JARS").expect("`cargo xtask kafka` sets KAFKA_JARS");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let data = TempDir::new().unwrap();
        let (jars, files) = (PathBuf::from(jars), data.path().join("kafka"));
        let broker = Broker::start(root, &jars, &files).await.unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &broker.address)
            .set("message.max.bytes", "10000000")
            .create();
        Self {
            database_url: Postgres::shared().await.unwrap().database().await.unwrap(),
            producer: producer.unwrap(),
            broker,
            _data: data,
        }
    }

    /// Starts a worker. It is one of the same group.
    async fn worker(&self) -> InProcess {
        let config = Config::try_parse_from([
            "backend",
            "--listen-addr=127.0.0.1:0",
            &format!("--database-url={}", self.database_url),
            &format!("--kafka-bootstrap-servers={}", self.broker.address),
        ]);
        let app = App::build(config.unwrap()).await.unwrap();
        InProcess::start(&self.database_url, |stop| {
            app.run(Shutdown {
                drain: stop.clone(),
                stop,
            })
        })
        .await
        .unwrap()
    }

    /// Sends a message to a partition. It carries the trace of the current span.
    async fn send(&self, partition: i32, key: &str, value: &[u8]) {
        let created = create_span(BOOK_EVENTS, Some(key), None);
        let record = FutureRecord::to(BOOK_EVENTS)
            .partition(partition)
            .key(key)
            .payload(value)
            .headers(OwnedHeaders::from(&Headers::carrying(&created)));
        self.producer.send(record, SOON).await.unwrap();
    }

    async fn publish(&self, partition: i32, book: i32) {
        let event = serde_json::to_vec(&BookEvent::added(book, "load-42".to_owned())).unwrap();
        self.send(partition, &book.to_string(), &event).await;
    }

    /// Waits until a topic exists.
    async fn wait_for_topic(&self, topic: &str) {
        let exists = || async {
            let metadata = self.producer.client().fetch_metadata(None, SOON).unwrap();
            let mut topics = metadata.topics().iter();
            topics.any(|one| one.name() == topic).then_some(())
        };
        eventually(SOON, topic, exists).await.unwrap();
    }

    async fn wait_for_rows(&self, worker: &InProcess, table: &str, rows: i64) {
        let has_rows = || async { (worker.count(table).await.unwrap() == rows).then_some(()) };
        eventually(SOON, table, has_rows).await.unwrap();
    }
}

/// The attempts of each message, in the order of their start: the number of the attempt, and whether it
/// failed or was cancelled.
fn attempts(spans: &Spans) -> BTreeMap<String, Vec<(String, bool)>> {
    let mut processed: Vec<&SpanData> = spans.all_named("process book.events.v1");
    processed.sort_by_key(|span| span.start_time);
    let mut attempts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for span in processed {
        let value = |key| attribute(span, key).unwrap().to_string();
        let key = value("messaging.kafka.message.key");
        let is_cancelled = attribute(span, "telemetry_common.cancelled").is_some();
        let has_failed = matches!(span.status, Status::Error { .. }) || is_cancelled;
        let attempt = value("telemetry_common.messaging.attempt");
        attempts.entry(key).or_default().push((attempt, has_failed));
    }
    attempts
}

#[tokio::test]
#[ignore = "needs a real Kafka: cargo xtask kafka"]
async fn partitions_that_go_and_come_back_inside_a_batch_lose_and_repeat_nothing() {
    let kafka = Kafka::start().await;
    // The third message of each partition waits. 55P03 is lock_not_available, a transient error.
    execute(
        &kafka.database_url,
        "create function refuse() returns trigger language plpgsql as
         $$ begin
             if new.book_id between 7 and 9 then raise exception 'later' using errcode = '55P03'; end if;
             return new;
         end $$;
         create trigger refuse before insert on book_details for each row execute function refuse();",
    )
    .await
    .unwrap();
    let first = kafka.worker().await;
    let happened = async |event: &'static str, times: usize| {
        let logged = || async { (testing::events(event).len() >= times).then_some(()) };
        eventually(SOON, event, logged).await.unwrap();
    };
    happened("bookapp.consumer.partitions.assigned", 1).await;
    let ((), spans) = testing::spans_of(async {
        for book in 1..=5 * PARTITIONS {
            kafka.publish((book - 1) % PARTITIONS, book).await;
        }
    })
    .await;
    let all_wait = || async {
        let attempts = attempts(&spans.refreshed());
        let waiting = ["7", "8", "9"];
        waiting
            .iter()
            .all(|book| attempts.contains_key(*book))
            .then_some(())
    };
    eventually(SOON, "a message of each partition waits", all_wait)
        .await
        .unwrap();
    let first_attempts = || {
        let attempts = attempts(&spans.refreshed());
        let attempts = attempts.values().flatten();
        attempts.filter(|(attempt, _)| attempt == "1").count()
    };
    let before = first_attempts();
    // Some partitions go to another worker, with messages that wait.
    let revoked = testing::events("bookapp.consumer.partitions.revoked").len();
    let second = kafka.worker().await;
    happened("bookapp.consumer.partitions.revoked", revoked + 1).await;
    let restarted = || async { (first_attempts() > before).then_some(()) };
    eventually(SOON, "the other worker has a message", restarted)
        .await
        .unwrap();
    execute(&kafka.database_url, "drop trigger refuse on book_details")
        .await
        .unwrap();
    kafka.wait_for_rows(&first, "book_details", 15).await;
    // They come back, with nothing new.
    second.finish().await.unwrap();
    for partition in 0..PARTITIONS {
        kafka.publish(partition, partition + 16).await;
    }
    kafka.wait_for_rows(&first, "book_details", 18).await;
    first.finish().await.unwrap();
    for (key, attempts) in attempts(&spans.refreshed()) {
        let succeeded = attempts.iter().filter(|(_, has_failed)| !has_failed);
        assert_eq!(succeeded.count(), 1, "book {key}: {attempts:?}");
        // Who gets the message begins with the first attempt, and the former worker makes no further one.
        let mut runs = attempts.chunk_by(|(one, _), (next, _)| {
            next.parse::<u32>().unwrap() == one.parse::<u32>().unwrap() + 1
        });
        assert!(runs.all(|run| run[0].0 == "1"), "book {key}: {attempts:?}");
    }
}

#[tokio::test]
#[ignore = "needs a real Kafka: cargo xtask kafka"]
async fn a_message_of_the_broker_s_maximum_size_becomes_a_dead_letter_and_the_next_one_is_processed()
 {
    let kafka = Kafka::start().await;
    let worker = kafka.worker().await;
    kafka.wait_for_topic(BOOK_EVENTS_DEAD_LETTER).await;
    // The limit of 1,048,588 bytes is for the batch, with about 200 bytes of overhead.
    kafka.send(0, "1", &vec![b' '; 1_048_300]).await;
    kafka.publish(0, 1).await;
    kafka.wait_for_rows(&worker, "book_details", 1).await;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.broker.address)
        .create()
        .unwrap();
    let topic = [ResourceSpecifier::Topic(BOOK_EVENTS_DEAD_LETTER)];
    let described = admin
        .describe_configs(&topic, &AdminOptions::new())
        .await
        .unwrap();
    let retention = described[0].as_ref().unwrap();
    let retention = retention.get("retention.ms").unwrap().value.as_deref();
    assert_eq!(retention, Some("2592000000"), "30 days");
    worker.finish().await.unwrap();
}
