//! Receive → span → handle → settle. It knows Kafka and nothing of books.
//!
//! At least once: an offset is stored only after the message is settled, that is done, or handed
//! to the dead-letter topic; it is committed in the background. A message that fails for a passing
//! reason waits with its partition, and is tried again; the other partitions go on.

mod dead_letters;
mod lag;
mod liveness;
mod replay;
mod waiting;

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER, BookAdded, DecodeError};
use futures::FutureExt;
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
};
use service_common::fault_injection::{FaultInjector, PROCESS};
use telemetry_common::{
    RequestId, db::Database, exception, kafka::Consuming, record_failure, semconv,
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
pub use liveness::Liveness;
pub use replay::replay;
use waiting::{Delayed, Waiting};

/// The topics this service reads and writes.
pub const TOPICS: [&str; 2] = [BOOK_ADDED, BOOK_ADDED_DEAD_LETTER];
/// The consumer group.
pub const GROUP: &str = "backend";

/// What Kafka calls this service's clients.
const CLIENT: &str = "backend";

/// How often the loop turns when there is nothing to do.
const TURN: Duration = Duration::from_secs(1);
/// How often a message may panic before it is a dead letter.
const MAX_PANICS: u32 = 3;

/// The consuming half of the service.
pub struct Consumer {
    messages: StreamConsumer<Liveness>,
    dead_letters: DeadLetters,
    db: Database,
    consuming: Consuming,
    faults: FaultInjector,
    metrics: Metrics,
    liveness: Liveness,
}

impl Consumer {
    /// A consumer that joins its group when it runs; Kafka need not be there yet.
    pub fn new(config: &Config, db: Database, faults: FaultInjector) -> Result<Self> {
        let liveness = Liveness::default();
        let messages = config
            .service
            .kafka
            .client(CLIENT)
            .set("group.id", GROUP)
            .set("group.protocol", "consumer") // joins at once, rebalances without a pause
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("statistics.interval.ms", "500") // tell whether the group is joined
            .create_with_context(liveness.clone())
            .context("the consumer's settings are wrong")?;
        let dead_letters = DeadLetters::new(&config.service.kafka)?;
        let consuming = Consuming {
            group: GROUP,
            client_id: CLIENT,
            relation: config.kafka_trace_relation,
        };
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

    /// What health asks.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Consumes until told to stop; then finishes the message in hand and commits.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        self.messages
            .subscribe(&[BOOK_ADDED])
            .context("could not subscribe")?;
        let mut waiting = Waiting::default();
        loop {
            self.liveness.turn();
            select! {
                biased;
                () = stop.cancelled() => break,
                delayed = waiting.next() => self.work_on(delayed, &mut waiting).await,
                received = self.messages.recv() => match received {
                    Ok(message) => {
                        // A paused partition delivers nothing, unless it was taken away and given
                        // back: then what waited is delivered again, and must not wait on.
                        waiting.forget(message.topic(), message.partition());
                        self.work_on(Delayed::first(message.detach()), &mut waiting).await;
                    }
                    Err(error) => exception!(warn, "bookapp.consumer.receive.failed", &error, "no message from Kafka"),
                },
                () = sleep(TURN) => {}
            }
        }
        // Committing and leaving the group block.
        let leaving = tokio::task::spawn_blocking(move || self.leave());
        leaving
            .await
            .context("the consumer could not leave its group")
    }

    fn leave(self) {
        match self.messages.commit_consumer_state(CommitMode::Sync) {
            // Nothing to commit, or the background commit was there first.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                exception!(
                    warn,
                    "bookapp.consumer.commit.failed",
                    &error,
                    "the last offsets are not committed"
                );
            }
        }
    }

    /// One attempt; then the message is settled, or waits with its partition.
    async fn work_on(&self, delayed: Delayed, waiting: &mut Waiting) {
        let (message, partition) = (&delayed.message, partition_of(&delayed.message));
        if delayed.attempt > 1 && !self.is_assigned(&partition) {
            return; // another worker has the partition, and the message
        }
        if !self.attempt(message, delayed.attempt).await {
            if let Err(error) = self.messages.pause(&partition) {
                exception!(
                    warn,
                    "bookapp.consumer.pause.failed",
                    &error,
                    "the partition does not wait"
                );
            }
            waiting.add(delayed);
            return;
        }
        let (topic, number, offset) = (message.topic(), message.partition(), message.offset());
        let stored = self.messages.store_offset(topic, number, offset);
        let resumed = if delayed.attempt > 1 {
            self.messages.resume(&partition)
        } else {
            Ok(())
        };
        if let Err(error) = stored.and(resumed) {
            // The partition was taken away meanwhile: the message is delivered again, elsewhere.
            exception!(
                warn,
                "bookapp.consumer.store.failed",
                &error,
                "the offset is not stored"
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

    /// One attempt, one span; whether the message is settled.
    async fn attempt(&self, message: &OwnedMessage, attempt: u32) -> bool {
        let started = Instant::now();
        let event = BookAdded::decode(message.payload());
        let request = event
            .as_ref()
            .ok()
            .and_then(|event| RequestId::parse(&event.request_id));
        let work = async {
            let failure = self.process(event, attempt).await.err();
            let completed = match &failure {
                None => true,
                Some(failure) if failure.may_pass(attempt) => false,
                Some(failure) => {
                    let sent = self.dead_letters.send(message, failure, attempt).await;
                    if sent {
                        self.metrics.dead_letters(failure.kind());
                    }
                    sent
                }
            };
            // After the dead letter: the metric covers what the span covers.
            let error_type = failure.as_ref().map(IngestionError::kind);
            self.consuming
                .processed(message, started.elapsed(), error_type);
            completed
        };
        // Inside the span, whose context the id joins: every line of this attempt carries it.
        let identified = Box::pin(async {
            match request {
                Some(id) => id.scope(work).await,
                None => work.await,
            }
        });
        self.consuming.process(message, attempt, identified).await
    }

    /// Ingests; the span that is current answers for a failure, and it is logged once.
    async fn process(
        &self,
        event: Result<BookAdded, DecodeError>,
        attempt: u32,
    ) -> Result<(), IngestionError> {
        let ingesting = AssertUnwindSafe(self.ingest(event)).catch_unwind();
        let result = ingesting.await.unwrap_or_else(|panic| {
            drop(panic); // logged and counted where it happened
            Err(IngestionError::Panic)
        });
        if let Err(error) = &result {
            record_failure(error.kind(), error);
            let attempt_field = i64::from(attempt);
            if error.may_pass(attempt) {
                self.metrics.retries(error.kind());
                exception!(warn, "bookapp.message.retry", error,
                    { { semconv::MESSAGING_ATTEMPT } = attempt_field },
                    "attempt {attempt} failed, will try again");
            } else if matches!(error, IngestionError::Panic) {
                // An error where it happened, each time.
                warn!(name: "bookapp.message.given_up",
                    { { semconv::MESSAGING_ATTEMPT } = attempt_field },
                    "it panics each time: this message is a dead letter");
            } else {
                exception!(error, "messaging.process.exception", error,
                    { { semconv::MESSAGING_ATTEMPT } = attempt_field },
                    "this message is a dead letter");
            }
        }
        result
    }

    async fn ingest(&self, event: Result<BookAdded, DecodeError>) -> Result<(), IngestionError> {
        self.faults.inject(PROCESS, BOOK_ADDED).await?;
        let event = event?;
        Span::current().record(semconv::MESSAGING_MESSAGE_ID, event.event_id.to_string());
        if ingestion::enrich(&self.db, &event).await? == Ingested::Derived {
            self.metrics.ingested(&event);
        }
        Ok(())
    }
}

impl IngestionError {
    /// Whether the message shall be tried again after this attempt.
    fn may_pass(&self, attempt: u32) -> bool {
        self.is_transient() && (attempt < MAX_PANICS || !matches!(self, Self::Panic))
    }
}

/// The partition a message came from.
fn partition_of(message: &OwnedMessage) -> TopicPartitionList {
    let mut partition = TopicPartitionList::with_capacity(1);
    partition.add_partition(message.topic(), message.partition());
    partition
}
