//! Messages that cannot be processed, kept where somebody can look at them and send them again.

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

/// Headers of a dead letter start with this; the others are the message's own.
pub(super) const PREFIX: &str = "dead-letter-";
/// Why it is one: a word from a fixed set.
pub(super) const REASON: &str = "dead-letter-reason";
/// How often it was tried.
pub(super) const ATTEMPTS: &str = "dead-letter-attempts";
/// Where it came from: `topic/partition@offset`.
pub(super) const ORIGIN: &str = "dead-letter-origin";

pub(super) struct DeadLetters(Producer);

impl DeadLetters {
    pub(super) fn new(kafka: &KafkaConfig) -> Result<Self> {
        let mut config = kafka.client(CLIENT);
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", "5000"); // the loop waits for it
        config.set("message.max.bytes", "10000000"); // the broker decides, not the client
        let producer = Producer::create(&config);
        producer
            .map(Self)
            .context("the producer's settings are wrong")
    }

    /// Hands the message to the dead-letter topic; whether it is there.
    ///
    /// It carries the trace it was created in, once; the span of sending it links there and to the
    /// failed attempt, which is current.
    pub(super) async fn send(
        &self,
        message: &OwnedMessage,
        failure: &IngestionError,
        attempt: u32,
    ) -> bool {
        let created = kafka::extract(message);
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        let headers = own_headers(message)
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
            .send(record, None, &[&created, &Trace::current()])
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

/// A message's headers without what this module added, its trace context exactly once.
pub(super) fn own_headers(message: &OwnedMessage) -> OwnedHeaders {
    let context = Headers::carrying(&kafka::extract(message));
    let own = message.headers().into_iter().flat_map(OwnedHeaders::iter);
    let own = own.filter(|header| !header.key.starts_with(PREFIX) && !context.names(header.key));
    own.fold(OwnedHeaders::from(&context), OwnedHeaders::insert)
}
