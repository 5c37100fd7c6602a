//! Sends messages that cannot be processed to the dead-letter topic. From there, an operator can
//! inspect and replay them.

use anyhow::{Context, Result};
use book_events::BOOK_ADDED_DEAD_LETTER;
use opentelemetry::Context as Trace;
use rdkafka::{
    Message,
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
    producer::FutureRecord,
};
use service_common::kafka::KafkaConfig;
use telemetry_common::{
    exception,
    kafka::{self, Headers, Producer},
};

use super::CLIENT;
use crate::ingestion::IngestionError;

/// The prefix of the headers that this module adds. All other headers come from the message.
pub(super) const PREFIX: &str = "dead-letter-";
/// The header with the reason: the `error.type` of the last failure.
pub(super) const REASON: &str = "dead-letter-reason";
/// The header with the number of attempts.
pub(super) const ATTEMPTS: &str = "dead-letter-attempts";
/// The header with the origin of the message: `topic/partition@offset`.
pub(super) const ORIGIN: &str = "dead-letter-origin";

pub(super) struct DeadLetters(Producer);

impl DeadLetters {
    pub(super) fn new(kafka: &KafkaConfig) -> Result<Self> {
        let mut config = kafka.client(CLIENT);
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", "5000"); // the consumer loop waits for this
        config.set("message.max.bytes", "10000000"); // the broker enforces the limit
        let producer = Producer::create(&config);
        producer
            .map(Self)
            .context("could not create the Kafka producer")
    }

    /// Sends the message to the dead-letter topic. Returns whether the broker has acknowledged it.
    ///
    /// The dead letter carries the trace context in which the message was created. The send span
    /// links to that context and to the current span, which is the failed attempt.
    pub(super) async fn send(
        &self,
        message: &OwnedMessage,
        failure: &IngestionError,
        attempt: u32,
    ) -> bool {
        let created = kafka::extract(message);
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        let headers = original_headers(message)
            .insert(Header {
                key: REASON,
                value: Some(failure.kind()),
            })
            .insert(Header {
                key: ATTEMPTS,
                value: Some(&attempt.to_string()),
            })
            .insert(Header {
                key: ORIGIN,
                value: Some(&format!("{topic}/{partition}@{offset}")),
            });
        let record = FutureRecord {
            topic: BOOK_ADDED_DEAD_LETTER,
            partition: None,
            payload: message.payload(),
            key: message.key(),
            timestamp: None,
            headers: Some(headers),
        };
        let sent = self
            .0
            .send_created(record, None, &[&created, &Trace::current()])
            .await;
        if let Err(error) = &sent {
            exception!(
                warn,
                "bookapp.dead_letter.failed",
                error,
                "the dead letter could not be sent"
            );
        }
        sent.is_ok()
    }
}

/// Returns the headers of a message without those that this module added. The trace context occurs
/// exactly once.
pub(super) fn original_headers(message: &OwnedMessage) -> OwnedHeaders {
    let context = Headers::carrying(&kafka::extract(message));
    let own = message.headers().into_iter().flat_map(OwnedHeaders::iter);
    let own = own.filter(|header| !header.key.starts_with(PREFIX) && !context.contains(header.key));
    own.fold(OwnedHeaders::from(&context), OwnedHeaders::insert)
}
