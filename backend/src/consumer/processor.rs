//! Processes one message alone: attempts until one succeeds, or until the message is a dead letter.

use std::{panic::AssertUnwindSafe, time::Duration};

use anyhow::{Context, Result};
use book_events::{BookEvent, DecodeError};
use futures::FutureExt;
use rdkafka::{Message, message::OwnedMessage};
use service_common::fault_injection::{FaultInjector, PROCESS};
use telemetry_common::{
    RequestId, db::Database, exception, kafka::ConsumerTelemetry, record_failure, semconv,
    set_attribute,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{CLIENT, GROUP};
use crate::{
    config::Config,
    dead_letters::{DeadLetters, Unprocessed},
    ingestion::{self, Ingested, IngestionError},
    metrics::Metrics,
};

/// A message that panics in this attempt, or a later one, is sent to the dead-letter topic.
const MAX_PANICS: u32 = 3;
/// The delay after the first failed attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// The maximum delay, without the jitter.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Processes messages.
pub(super) struct Processor {
    dead_letters: DeadLetters,
    pub(super) db: Database,
    pub(super) consuming: ConsumerTelemetry,
    pub(super) faults: Option<FaultInjector>,
    pub(super) metrics: Metrics,
}

/// The outcome of an attempt.
enum Outcome<'m> {
    /// The message was processed, or sent to the dead-letter topic.
    Completed,
    /// The attempt failed with an error that may pass.
    Retry,
    /// The attempt failed for good, and its dead letter could not be sent.
    Unsent(Unprocessed<'m>),
}

impl Processor {
    pub(super) fn new(
        config: &Config,
        db: Database,
        faults: Option<FaultInjector>,
    ) -> Result<Self> {
        let consuming = ConsumerTelemetry::new(GROUP, CLIENT).relation(config.kafka_trace_relation);
        Ok(Self {
            dead_letters: DeadLetters::new(&config.service.kafka, CLIENT)
                .context("could not create the Kafka producer")?,
            db,
            consuming,
            faults,
            metrics: Metrics::new(),
        })
    }

    /// Processes a message until it is completed: processed, or sent to the dead-letter topic. Returns
    /// `false` if `stop` is cancelled earlier; a running attempt ends nevertheless.
    pub(super) async fn complete(&self, message: &OwnedMessage, stop: &CancellationToken) -> bool {
        let is_stopped = async |attempt: u32| {
            let delay = sleep(backoff(attempt));
            stop.run_until_cancelled(delay).await.is_none()
        };
        let mut attempt = 1;
        let letter = loop {
            match self.attempt(message, attempt).await {
                Outcome::Completed => return true,
                Outcome::Unsent(letter) => break letter,
                Outcome::Retry => {}
            }
            if is_stopped(attempt).await {
                return false;
            }
            attempt += 1;
        };
        for attempt in 1.. {
            if is_stopped(attempt).await {
                return false;
            }
            if self.dead_letters.send(&letter).await.is_ok() {
                self.metrics.dead_letters(letter.reason());
                break;
            }
        }
        true
    }

    /// Makes one attempt, in one span.
    async fn attempt<'m>(&self, message: &'m OwnedMessage, attempt: u32) -> Outcome<'m> {
        let event = BookEvent::decode(message.payload());
        let request = event
            .as_ref()
            .ok()
            .and_then(|event| RequestId::parse(&event.request_id));
        let work = async {
            let failure = self.process(message.topic(), event, attempt).await.err();
            let outcome = match &failure {
                None => Outcome::Completed,
                Some(failure) if failure.is_retryable(attempt) => Outcome::Retry,
                Some(failure) => self.send_dead_letter(message, failure, attempt).await,
            };
            (outcome, failure.as_ref().map(IngestionError::kind))
        };
        // The scope is inside the span, because the request id is added to the context of the span.
        // All log records of this attempt contain the id.
        let work = Box::pin(work);
        let identified = async {
            match request {
                Some(id) => id.scope(work).await,
                None => work.await,
            }
        };
        let error_type = |(_, error_type): &(Outcome<'_>, _)| *error_type;
        let processing = self
            .consuming
            .process(message, attempt, identified, error_type);
        let (outcome, _) = processing.await;
        outcome
    }

    /// Sends a message to the dead-letter topic.
    async fn send_dead_letter<'m>(
        &self,
        message: &'m OwnedMessage,
        failure: &IngestionError,
        attempt: u32,
    ) -> Outcome<'m> {
        let letter = Unprocessed::new(message, failure.kind(), attempt);
        match self.dead_letters.send(&letter).await {
            Ok(()) => {
                self.metrics.dead_letters(letter.reason());
                Outcome::Completed
            }
            Err(error) => {
                exception!(
                    warn,
                    "bookapp.dead_letter.failed",
                    &error,
                    "the dead letter could not be sent, its partition waits until it can"
                );
                Outcome::Unsent(letter)
            }
        }
    }

    /// Ingests an event. A failure is recorded on the current span and logged, once.
    async fn process(
        &self,
        topic: &str,
        event: Result<BookEvent, DecodeError>,
        attempt: u32,
    ) -> Result<(), IngestionError> {
        let result = catch_panic(self.ingest(topic, event)).await;
        if let Err(error) = &result {
            record_failure(error.kind(), error);
            let attempt_field = i64::from(attempt);
            if error.is_retryable(attempt) {
                self.metrics.retries(error.kind());
                exception!(warn, "bookapp.message.retry", error,
                    { { semconv::MESSAGING_ATTEMPT } = attempt_field },
                    "attempt {attempt} failed, the message will be retried");
            } else if matches!(error, IngestionError::Panic) {
                // Each panic is already logged as an error.
                warn!(name: "bookapp.message.given_up",
                    { { semconv::MESSAGING_ATTEMPT } = attempt_field },
                    "attempt {attempt} panicked, the message becomes a dead letter");
            } else {
                exception!(error, "messaging.process.exception", error,
                    { { semconv::MESSAGING_ATTEMPT } = attempt_field },
                    "the message could not be processed and becomes a dead letter");
            }
        }
        result
    }

    async fn ingest(
        &self,
        topic: &str,
        event: Result<BookEvent, DecodeError>,
    ) -> Result<(), IngestionError> {
        if let Some(faults) = &self.faults {
            faults.inject(PROCESS, topic).await?;
        }
        let event = event?;
        set_attribute(semconv::MESSAGING_MESSAGE_ID, event.event_id.to_string());
        if ingestion::enrich(&self.db, &event).await? != Ingested::Duplicate {
            self.metrics.ingested(&event);
        }
        Ok(())
    }
}

/// Returns the outcome of `work`, or the error that it panicked.
pub(super) async fn catch_panic<T>(
    work: impl Future<Output = Result<T, IngestionError>>,
) -> Result<T, IngestionError> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|panic| {
        drop(panic); // the panic hook has logged and counted it
        Err(IngestionError::Panic)
    })
}

impl IngestionError {
    /// Returns whether the message is retried after this attempt.
    fn is_retryable(&self, attempt: u32) -> bool {
        self.is_transient() && (attempt < MAX_PANICS || !matches!(self, Self::Panic))
    }
}

/// Returns the delay after an attempt: exponential backoff up to a limit, with a jitter of ±50 %.
/// The jitter prevents that workers which failed at the same time also retry at the same time.
fn backoff(attempt: u32) -> Duration {
    let doubled = INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(MAX_BACKOFF).mul_f32(0.5 + fastrand::f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_a_limit_and_has_jitter() {
        for attempt in [1, 2, 5, 30, u32::MAX] {
            let delay = backoff(attempt);
            let middle = INITIAL_BACKOFF
                .saturating_mul(1 << (attempt - 1).min(10))
                .min(MAX_BACKOFF);
            assert!(
                delay >= middle / 2 && delay <= middle * 3 / 2,
                "{attempt}: {delay:?}"
            );
        }
        let delays: Vec<_> = (0..10).map(|_| backoff(3)).collect();
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }
}
