//! Sends messages that cannot be processed to the dead-letter topic.

use std::sync::{Mutex, PoisonError};

use book_events::BOOK_EVENTS_DEAD_LETTER;
use opentelemetry::{Context, trace::TraceContextExt};
use rdkafka::{
    ClientConfig, Message, error::KafkaResult, message::OwnedMessage, producer::FutureRecord,
};
use service_common::kafka::KafkaConfig;
use telemetry_common::kafka::{self, Producer};
use ulid::Ulid;

use super::letter::Labels;

/// A message that cannot be processed.
#[derive(Debug)]
pub(crate) struct Unprocessed<'m> {
    message: &'m OwnedMessage,
    labels: Labels,
}

impl<'m> Unprocessed<'m> {
    /// Creates the dead letter of a message whose last attempt has failed in the current span. `reason` is
    /// the `error.type`.
    pub(crate) fn new(message: &'m OwnedMessage, reason: &'static str, attempts: u32) -> Self {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        let attempt = Context::current().span().span_context().clone();
        Self {
            message,
            labels: Labels {
                id: Ulid::generate().to_string(),
                reason,
                attempts,
                origin: format!("{topic}/{partition}@{offset}"),
                failed: Context::new().with_remote_span_context(attempt),
            },
        }
    }

    /// Returns the `error.type` of the failure.
    pub(crate) fn reason(&self) -> &'static str {
        self.labels.reason
    }
}

/// The producer of dead letters.
pub(crate) struct DeadLetters {
    config: ClientConfig,
    producer: Mutex<Producer>,
}

impl DeadLetters {
    /// Creates the producer. Kafka does not have to be reachable yet.
    pub(crate) fn new(kafka: &KafkaConfig, client_id: &str) -> KafkaResult<Self> {
        let mut config = kafka.client(client_id);
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", "5000");
        config.set("message.max.bytes", "10000000"); // the broker enforces the limit
        Ok(Self {
            producer: Mutex::new(Producer::create(&config)?),
            config,
        })
    }

    /// Sends a message to the dead-letter topic, and waits until the broker has acknowledged it.
    ///
    /// The dead letter carries the trace context in which the message was created. The send span
    /// links to that context and to the attempt that failed.
    pub(crate) async fn send(&self, letter: &Unprocessed<'_>) -> KafkaResult<()> {
        let Unprocessed { message, labels } = letter;
        let record = FutureRecord {
            topic: BOOK_EVENTS_DEAD_LETTER,
            partition: None,
            payload: message.payload(),
            key: message.key(),
            timestamp: None,
            headers: Some(labels.headers(message)),
        };
        let links = [&kafka::extract(*message), &labels.failed];
        let sent = self.producer()?.send_created(record, None, &links).await;
        sent.map(drop)
    }

    /// Returns the producer. Replaces it after a fatal error, because it could never send again.
    fn producer(&self) -> KafkaResult<Producer> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if producer.fatal_error().is_some() {
            *producer = Producer::create(&self.config)?;
        }
        Ok(producer.clone())
    }
}
