//! The Kafka consumer: receives messages, creates their spans, and acknowledges or dead-letters
//! them.
//!
//! Delivery is at least once. The offset of a message is stored only after the message is
//! completed: it was processed, or sent to the dead-letter topic. Stored offsets are committed in
//! the background. A message that fails with a transient error is retried. Its partition is paused
//! in the meantime; the other partitions continue.

mod dead_letters;
mod delayed_messages;
mod lag;
mod liveness;
mod replay;

use std::{panic::AssertUnwindSafe, time::Duration};

use anyhow::{Context, Result};
use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER, BookAdded, DecodeError};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
};
use service_common::fault_injection::{FaultInjector, PROCESS};
use telemetry_common::{
    RequestId, db::Database, exception, kafka::ConsumerTelemetry, record_failure, semconv,
};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

use crate::{
    config::Config,
    ingestion::{self, Ingested, IngestionError},
    metrics::Metrics,
};
use dead_letters::DeadLetters;
use delayed_messages::{DelayedMessage, DelayedMessages};
pub use liveness::Liveness;
pub use replay::replay;

/// The topics that this service reads and writes.
pub const TOPICS: [&str; 2] = [BOOK_ADDED, BOOK_ADDED_DEAD_LETTER];
/// The consumer group.
pub const GROUP: &str = "backend";

/// The client id of the Kafka clients of this service.
const CLIENT: &str = "backend";

/// The interval in which the consumer loop polls if there is no message.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A message that panics in this attempt, or a later one, is sent to the dead-letter topic.
const MAX_PANICS: u32 = 3;

/// Consumes and processes messages.
pub struct Consumer {
    messages: StreamConsumer<Liveness>,
    dead_letters: DeadLetters,
    db: Database,
    consuming: ConsumerTelemetry,
    faults: Option<FaultInjector>,
    metrics: Metrics,
    liveness: Liveness,
}

impl Consumer {
    /// Creates a consumer, which joins its group when it runs. Kafka does not have to be reachable
    /// yet.
    pub fn new(config: &Config, db: Database, faults: Option<FaultInjector>) -> Result<Self> {
        let liveness = Liveness::default();
        let messages = config
            .service
            .kafka
            .client(CLIENT)
            .set("group.id", GROUP)
            .set("group.protocol", "consumer") // joins immediately, rebalances without a stop
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("statistics.interval.ms", "500") // report the lag and the state of the group
            .create_with_context(liveness.clone())
            .context("could not create the Kafka consumer")?;
        let dead_letters = DeadLetters::new(&config.service.kafka)?;
        let consuming = ConsumerTelemetry::new(GROUP, CLIENT).relation(config.kafka_trace_relation);
        Ok(Self {
            messages,
            dead_letters,
            db,
            consuming,
            faults,
            metrics: Metrics::new(),
            liveness,
        })
    }

    /// Returns the state for the health checks.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Consumes messages until `stop` is cancelled. Then completes the current message and commits.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        self.messages
            .subscribe(&[BOOK_ADDED])
            .context("could not subscribe to the topic")?;
        let mut delayed_messages = DelayedMessages::default();
        let mut slow_attempts = FuturesUnordered::new();
        loop {
            self.liveness.record_poll();
            select! {
                biased;
                () = stop.cancelled() => break,
                delayed = delayed_messages.next() => self.handle(delayed, &mut delayed_messages).await,
                Some((slow, completed)) = slow_attempts.next() => self.settle(slow, completed, &mut delayed_messages),
                received = self.messages.recv() => match received {
                    Ok(message) => {
                        // A paused partition delivers messages only if it was revoked and assigned
                        // again. Then its delayed message is delivered again, too.
                        delayed_messages.remove(message.topic(), message.partition());
                        let mut message = DelayedMessage::first(message.detach());
                        if self.may_be_slow() {
                            // Only its own partition waits for this message.
                            self.pause(&mut message);
                            slow_attempts.push(self.attempt(message));
                        } else {
                            self.handle(message, &mut delayed_messages).await;
                        }
                    }
                    Err(error) => exception!(warn, "bookapp.consumer.receive.failed", &error, "could not receive a message from Kafka"),
                },
                () = sleep(POLL_INTERVAL) => {}
            }
        }
        drop(slow_attempts); // their messages are delivered again
        // Committing and leaving the group block the thread.
        let leaving = tokio::task::spawn_blocking(move || self.leave());
        leaving
            .await
            .context("the consumer could not leave its group")
    }

    fn leave(self) {
        match self.messages.commit_consumer_state(CommitMode::Sync) {
            // There is no offset to commit, or the background commit has already committed it.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                exception!(
                    warn,
                    "bookapp.consumer.commit.failed",
                    &error,
                    "the last offsets could not be committed"
                );
            }
        }
    }

    /// Makes one attempt at a message, and settles it.
    async fn handle(&self, message: DelayedMessage, delayed_messages: &mut DelayedMessages) {
        if message.attempt > 1 && !self.is_assigned(&partition_of(&message.message)) {
            return; // the partition was revoked: another worker gets the message
        }
        let (message, completed) = self.attempt(message).await;
        self.settle(message, completed, delayed_messages);
    }

    fn may_be_slow(&self) -> bool {
        let faults = self.faults.as_ref();
        faults.is_some_and(|faults| faults.may_delay(PROCESS, BOOK_ADDED))
    }

    /// Ends an attempt. If the message is completed, stores its offset. Otherwise pauses its partition
    /// and delays the message.
    fn settle(
        &self,
        mut message: DelayedMessage,
        completed: bool,
        delayed_messages: &mut DelayedMessages,
    ) {
        if !completed {
            self.pause(&mut message);
            delayed_messages.add(message);
            return;
        }
        let DelayedMessage {
            message, is_paused, ..
        } = message;
        let (topic, number, offset) = (message.topic(), message.partition(), message.offset());
        let stored = self.messages.store_offset(topic, number, offset);
        let resumed = if is_paused {
            self.messages.resume(&partition_of(&message))
        } else {
            Ok(())
        };
        if let Err(error) = stored.and(resumed) {
            // The partition was revoked in the meantime: Kafka delivers the message to another
            // worker.
            exception!(
                warn,
                "bookapp.consumer.store.failed",
                &error,
                "the offset could not be stored"
            );
        }
    }

    /// Pauses the partition of a message, unless it is paused already.
    fn pause(&self, message: &mut DelayedMessage) {
        if message.is_paused {
            return;
        }
        message.is_paused = true;
        let partition = partition_of(&message.message);
        if let Err(error) = self.messages.pause(&partition) {
            exception!(
                warn,
                "bookapp.consumer.pause.failed",
                &error,
                "the partition could not be paused"
            );
        }
    }

    fn is_assigned(&self, partition: &TopicPartitionList) -> bool {
        let assigned = self.messages.assignment().unwrap_or_default();
        partition.elements().iter().all(|element| {
            assigned
                .find_partition(element.topic(), element.partition())
                .is_some()
        })
    }

    /// Makes one attempt, in one span. Also returns whether the message is completed: processed or
    /// dead-lettered.
    async fn attempt(&self, delayed: DelayedMessage) -> (DelayedMessage, bool) {
        let (message, attempt) = (&delayed.message, delayed.attempt);
        let event = BookAdded::decode(message.payload());
        let request = event
            .as_ref()
            .ok()
            .and_then(|event| RequestId::parse(&event.request_id));
        let work = async {
            let failure = self.process(event, attempt).await.err();
            let completed = match &failure {
                None => true,
                Some(failure) if failure.is_retryable(attempt) => false,
                Some(failure) => {
                    let sent = self.dead_letters.send(message, failure, attempt).await;
                    if sent {
                        self.metrics.dead_letters(failure.kind());
                    }
                    sent
                }
            };
            (completed, failure.as_ref().map(IngestionError::kind))
        };
        // The scope is inside the span, because the request id is added to the context of the span.
        // All log records of this attempt contain the id.
        let identified = Box::pin(async {
            match request {
                Some(id) => id.scope(work).await,
                None => work.await,
            }
        });
        let error_type = |(_, error_type): &(bool, _)| *error_type;
        let processing = self
            .consuming
            .process(message, attempt, identified, error_type);
        let (completed, _) = processing.await;
        (delayed, completed)
    }

    /// Ingests an event. A failure is recorded on the current span and logged, once.
    async fn process(
        &self,
        event: Result<BookAdded, DecodeError>,
        attempt: u32,
    ) -> Result<(), IngestionError> {
        let ingesting = AssertUnwindSafe(self.ingest(event)).catch_unwind();
        let result = ingesting.await.unwrap_or_else(|panic| {
            drop(panic); // the panic hook has logged and counted it
            Err(IngestionError::Panic)
        });
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

    async fn ingest(&self, event: Result<BookAdded, DecodeError>) -> Result<(), IngestionError> {
        if let Some(faults) = &self.faults {
            faults.inject(PROCESS, BOOK_ADDED).await?;
        }
        let event = event?;
        Span::current().record(semconv::MESSAGING_MESSAGE_ID, event.event_id.to_string());
        if ingestion::enrich(&self.db, &event).await? == Ingested::Derived {
            self.metrics.ingested(&event);
        }
        Ok(())
    }
}

impl IngestionError {
    /// Returns whether the message is retried after this attempt.
    fn is_retryable(&self, attempt: u32) -> bool {
        self.is_transient() && (attempt < MAX_PANICS || !matches!(self, Self::Panic))
    }
}

/// Returns the partition of a message.
fn partition_of(message: &OwnedMessage) -> TopicPartitionList {
    let mut partition = TopicPartitionList::with_capacity(1);
    partition.add_partition(message.topic(), message.partition());
    partition
}
