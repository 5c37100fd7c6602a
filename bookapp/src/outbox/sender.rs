//! Sends batches of pending messages to Kafka, and marks each message as sent after the broker has
//! acknowledged it.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use opentelemetry::metrics::Counter;
use rdkafka::{
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{FutureRecord, future_producer::Delivery},
};
use service_common::{kafka::KafkaConfig, postgres::in_time};
use telemetry_common::{db::Connection, exception, kafka::Producer, record_failure};
use tracing::{Instrument, Span, field::Empty, info_span, instrument};

use super::{held_keys::HeldKeys, leadership::ANSWER_TIMEOUT, repository};

/// The maximum number of messages in a batch.
const BATCH_SIZE: i64 = 500;
/// The maximum time from reading rows to sending their messages.
const MAX_ROW_AGE: Duration = Duration::from_secs(1);
/// The time limit for the broker's acknowledgement of a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(4);
/// The time after which no message of a sender that lost its connection is on its way.
pub(super) const SETTLE_TIME: Duration = MAX_ROW_AGE.saturating_add(SEND_TIMEOUT);

/// Sends the messages of one leader.
pub(super) struct Sender {
    producer: Producer,
    held_keys: HeldKeys,
    quarantined: Counter<u64>,
}

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// The relay can go on: all messages were sent or quarantined, or the keys of the others are held.
    Completed,
    /// The relay must wait before it sends again.
    Failed,
}

impl Sender {
    /// Creates a sender, which connects when it first sends. It counts quarantined messages.
    pub(super) fn new(kafka: &KafkaConfig, quarantined: Counter<u64>) -> Result<Self> {
        let mut config = kafka.client("bookapp");
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", SEND_TIMEOUT.as_millis().to_string());
        Ok(Self {
            producer: Producer::create(&config).context("could not create the Kafka producer")?,
            held_keys: HeldKeys::default(),
            quarantined,
        })
    }

    /// Relays one batch. Returns `None`, and creates no span, if no message is pending.
    pub(super) async fn relay_batch(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<BatchOutcome>> {
        if let Some((code, message)) = self.producer.fatal_error() {
            bail!("the Kafka producer has a fatal error: {code}: {message}");
        }
        let waiting = self.held_keys.waiting();
        if !is_pending(connection, &waiting).await? {
            return Ok(None);
        }
        let batch = info_span!(parent: None, "outbox.relay", bookapp.outbox.batch.size = Empty);
        let span = batch.clone();
        let relay = async {
            let outcome = self.send_batch(connection, &waiting, &span).await;
            outcome.inspect_err(|error| record_failure("database", error))
        };
        Ok(Some(relay.instrument(batch).await?))
    }

    /// Sends one batch. The metrics `bookapp.outbox.relay` measure it.
    #[instrument(
        name = "record.relay_batch",
        level = "debug",
        skip_all,
        fields(metric_name = "bookapp.outbox.relay"),
        err(level = "trace")
    )]
    async fn send_batch(
        &mut self,
        connection: &mut Connection,
        waiting: &[String],
        batch: &Span,
    ) -> sqlx::Result<BatchOutcome> {
        let read_at = Instant::now();
        let mut rows = repository::pending(&mut *connection, waiting, BATCH_SIZE).await?;
        // At most one message per book: the next one is sent after this one is acknowledged, which
        // keeps the order of the messages of a book.
        let mut keys = HashSet::new();
        rows.retain(|row| keys.insert(row.key.clone()));
        if read_at.elapsed() > MAX_ROW_AGE {
            // Another instance may be the leader, and may be sending them.
            rows.clear();
        }
        batch.record("bookapp.outbox.batch.size", rows.len().cast_signed() as i64);
        // The producer gets the messages in order; the broker acknowledges them concurrently.
        let sends: Vec<_> = rows.iter().map(|row| send(&self.producer, row)).collect();
        let mut sent = Vec::with_capacity(rows.len());
        let mut failed = Vec::new();
        for (row, outcome) in rows.iter().zip(join_all(sends).await) {
            match outcome {
                Ok(_) => {
                    sent.push(row.id);
                    self.held_keys.release(&row.key);
                }
                Err(error) => failed.push((row, error)),
            }
        }
        if !sent.is_empty() {
            repository::mark_published(&mut *connection, &sent).await?;
        }
        let (permanent, retryable): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(_, error)| is_permanent(error));
        for (row, error) in permanent {
            exception!(
                error,
                "bookapp.outbox.message.set_aside",
                &error,
                "message {} was quarantined, because it can never be sent",
                row.id
            );
            let reason = error.to_string();
            repository::quarantine(&mut *connection, row.id, &reason).await?;
            self.held_keys.release(&row.key);
            self.quarantined.add(1, &[]);
        }
        let Some((_, error)) = retryable.first() else {
            return Ok(BatchOutcome::Completed);
        };
        record_failure("unsent", error);
        let (left, all) = (retryable.len(), rows.len());
        exception!(
            warn,
            "bookapp.outbox.messages.wait",
            error,
            "{left} of {all} messages were not sent and stay in the outbox"
        );
        // If several messages were tried and none was sent, the reason is Kafka and not a message.
        let is_kafka = all > 1 && left == all;
        if !is_kafka
            && retryable
                .iter()
                .all(|(row, _)| self.held_keys.hold(&row.key))
        {
            Ok(BatchOutcome::Completed)
        } else {
            Ok(BatchOutcome::Failed)
        }
    }
}

/// Returns whether a message is pending whose key is not held.
pub(super) async fn is_pending(
    connection: &mut Connection,
    held_keys: &[String],
) -> sqlx::Result<bool> {
    let is_pending = repository::is_pending(connection.untraced(), held_keys);
    in_time(ANSWER_TIMEOUT, is_pending).await
}

fn send(
    producer: &Producer,
    row: &repository::Row,
) -> impl Future<Output = KafkaResult<Delivery>> + use<> {
    // A trace of its own, which is kept or dropped with that of its message.
    let _own_trace = opentelemetry::Context::new().attach();
    let payload = row.payload.to_string();
    let record = FutureRecord::to(&row.topic)
        .key(&row.key)
        .payload(&payload)
        .headers(OwnedHeaders::from(&row.headers.0));
    producer.send_created(record, Some(&row.event_id), &[&row.headers.context()])
}

/// Returns whether every retry would fail, because the message itself is invalid.
fn is_permanent(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTopic
        )
    )
}
