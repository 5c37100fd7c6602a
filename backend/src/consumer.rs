//! Receive → span → handle → settle. It knows Kafka and nothing of books.
//!
//! At least once: an offset is stored only after the message is settled, that is done, or handed
//! to the dead-letter topic; it is committed in the background. What fails for a passing reason is
//! tried again, in place, until it goes well.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER, BookAdded};
use rdkafka::{
    ClientContext, Message,
    consumer::{
        BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
    },
    error::KafkaError,
    message::{BorrowedHeaders, BorrowedMessage, Header},
    producer::{FutureProducer, FutureRecord},
};
use telemetry_common::{
    RequestId,
    db::Database,
    kafka::{self, TraceRelation},
    record_failure, semconv,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, info, warn};

use crate::{
    config::Config,
    ingestion::{self, IngestionError},
};

/// The topics this service reads and writes.
pub const TOPICS: [&str; 2] = [BOOK_ADDED, BOOK_ADDED_DEAD_LETTER];
/// The consumer group.
pub const GROUP: &str = "backend";
/// The header that says why a message is a dead letter.
pub const REASON: &str = "dead-letter-reason";

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The consuming half of the service.
pub struct Consumer {
    messages: StreamConsumer<Liveness>,
    dead_letters: FutureProducer,
    db: Database,
    relation: TraceRelation,
    liveness: Liveness,
}

/// How one attempt at a message ended.
enum Outcome {
    Done,
    Retry(IngestionError),
    DeadLetter(IngestionError),
}

impl Consumer {
    /// A consumer that joins its group when it runs; Kafka need not be there yet.
    pub fn new(config: &Config, db: Database) -> Result<Self> {
        let liveness = Liveness::default();
        let messages: StreamConsumer<_> = config
            .kafka
            .client()
            .set("group.id", GROUP)
            .set("group.protocol", "consumer") // joins at once, rebalances without a pause
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .create_with_context(liveness.clone())
            .context("the consumer's settings are wrong")?;
        let dead_letters = config
            .kafka
            .client()
            .set("enable.idempotence", "true")
            .create()
            .context("the producer's settings are wrong")?;
        let relation = config.kafka_trace_relation;
        Ok(Self {
            messages,
            dead_letters,
            db,
            relation,
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
        while let Some(received) = stop.run_until_cancelled(self.messages.recv()).await {
            match received {
                Ok(message) => self.settle(&message, &stop).await?,
                Err(error) => warn!(error = &error as &dyn Error, "no message from Kafka"),
            }
        }
        tokio::task::spawn_blocking(move || {
            match self.messages.commit_consumer_state(CommitMode::Sync) {
                // The background commit was there first.
                Ok(())
                | Err(KafkaError::ConsumerCommit(rdkafka::error::RDKafkaErrorCode::NoOffset)) => {}
                Err(error) => warn!(
                    error = &error as &dyn Error,
                    "the last offsets are not committed"
                ),
            }
            // Leaving the group blocks too.
            drop(self);
        })
        .await
        .context("the consumer could not leave its group")
    }

    /// Tries until the message is done or a dead letter, then stores its offset.
    async fn settle(&self, message: &BorrowedMessage<'_>, stop: &CancellationToken) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        while !self.attempt(message).await {
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Ok(()); // not stored: it is delivered again
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        self.messages
            .store_offset_from_message(message)
            .context("could not store an offset")
    }

    /// One attempt, one span; whether the message is settled.
    async fn attempt(&self, message: &BorrowedMessage<'_>) -> bool {
        let started = Instant::now();
        let span = kafka::process_span(message, GROUP, self.relation);
        async {
            let outcome = self.process(message).await;
            let error_type = match &outcome {
                Outcome::Done => None,
                Outcome::Retry(error) | Outcome::DeadLetter(error) => Some(error.kind()),
            };
            kafka::processed(message, GROUP, started.elapsed(), error_type);
            match outcome {
                Outcome::Done => true,
                Outcome::Retry(_) => false,
                Outcome::DeadLetter(reason) => self.bury(message, &reason).await,
            }
        }
        .instrument(span)
        .await
    }

    /// Decodes and ingests; the span that is current answers for the failure.
    async fn process(&self, message: &BorrowedMessage<'_>) -> Outcome {
        let Err(error) = self.ingest(message).await else {
            return Outcome::Done;
        };
        record_failure(error.kind(), &error);
        if error.is_transient() {
            warn!(error = &error as &dyn Error, "will try again");
            Outcome::Retry(error)
        } else {
            error!(
                error = &error as &dyn Error,
                "this message is a dead letter"
            );
            Outcome::DeadLetter(error)
        }
    }

    async fn ingest(&self, message: &BorrowedMessage<'_>) -> Result<(), IngestionError> {
        let event = BookAdded::decode(message.payload())?;
        Span::current().record(semconv::MESSAGING_MESSAGE_ID, event.event_id.to_string());
        let request = RequestId::parse(&event.request_id).unwrap_or_else(RequestId::generate);
        request.scope(ingestion::enrich(&self.db, &event)).await?;
        Ok(())
    }

    /// Hands the message to the dead-letter topic, its headers as they were and the reason added.
    async fn bury(&self, message: &BorrowedMessage<'_>, reason: &IngestionError) -> bool {
        let original = message
            .headers()
            .map(BorrowedHeaders::detach)
            .unwrap_or_default();
        let headers = original.insert(Header {
            key: REASON,
            value: Some(reason.kind()),
        });
        let record = FutureRecord {
            topic: BOOK_ADDED_DEAD_LETTER,
            partition: None,
            payload: message.payload(),
            key: message.key(),
            timestamp: None,
            headers: Some(headers),
        };
        let sent = kafka::send(&self.dead_letters, record, &kafka::extract(message)).await;
        if let Err(error) = &sent {
            warn!(
                error = error as &dyn Error,
                "the dead letter could not be sent"
            );
        }
        sent.is_ok()
    }
}

/// Whether the consumer has its partitions; told by Kafka, asked by health.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    joined: Arc<AtomicBool>,
}

impl Liveness {
    /// Whether the group has answered with an assignment.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }
}

impl ClientContext for Liveness {}

impl ConsumerContext for Liveness {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let joined = matches!(rebalance, Rebalance::Assign(_));
        self.joined.store(joined, Ordering::Relaxed);
        info!("partitions {}", if joined { "assigned" } else { "revoked" });
    }
}
