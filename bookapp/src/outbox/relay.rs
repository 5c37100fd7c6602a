//! The relay: sends the pending messages of the outbox to Kafka in order, and marks each one as
//! sent after the broker has acknowledged it.
//!
//! Only one instance relays at a time. This leader holds an advisory lock on a dedicated
//! connection. It reads and marks rows on the same connection, so it loses the leadership together
//! with the connection. A message that was sent but not marked is sent again; the worker ignores
//! the duplicate.

use std::{
    collections::HashSet,
    io::ErrorKind,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::join_all;
use opentelemetry::metrics::Counter;
use rdkafka::{
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{FutureRecord, future_producer::Delivery},
};
use telemetry_common::{
    db::{Connection, Database},
    exception,
    kafka::Producer,
    record_failure,
};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty, info, info_span, instrument};

use super::{
    RelayNotifier, TOPICS,
    backlog::Gauges,
    repository::{self, Backlog},
};
use crate::{config::Config, metrics::Metrics};

/// The key of the advisory lock of the relay. Nothing else in this database uses this key.
const LOCK: i64 = 0x0b00_4a99;
/// The maximum number of messages in a batch.
const BATCH_SIZE: i64 = 100;
/// The interval of polling for rows of other instances.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The interval of trying to become the leader.
const ELECTION_INTERVAL: Duration = Duration::from_millis(500);
/// The delay after the first failure. Each further failure doubles the delay.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The time limit for the broker's acknowledgement of a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of measuring the backlog while the relay cannot send.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(1);
/// The interval of pruning sent rows whose retention time is over. If a statement leaves some, the next
/// turn of the relay prunes again.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
/// The time limit of a step that uses the connection. The server cancels a statement earlier, so it
/// is reached only if the server is gone without a word.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the messages of the outbox to Kafka.
pub struct Relay {
    config: Config,
    db: Database,
    outbox: RelayNotifier,
    gauges: Gauges,
    quarantined: Counter<u64>,
}

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchOutcome {
    /// All messages were sent or quarantined.
    Completed,
    /// Some messages were not sent and stay pending.
    Incomplete,
}

impl Relay {
    /// Creates a relay that `outbox` notifies. Kafka does not have to be reachable yet.
    pub(crate) fn new(
        config: &Config,
        db: Database,
        outbox: RelayNotifier,
        metrics: &Metrics,
    ) -> Self {
        Self {
            config: config.clone(),
            db,
            outbox,
            gauges: Gauges::register(),
            quarantined: metrics.quarantined.clone(),
        }
    }

    /// Relays until `stop` is cancelled. Restarts after a failure.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Err(error) = self.relay_as_leader(&stop).await else {
                return;
            };
            self.gauges.clear();
            exception!(
                warn,
                "bookapp.outbox.relay.failed",
                &*error,
                "the outbox relay failed and will restart"
            );
            stop.run_until_cancelled(sleep(INITIAL_BACKOFF)).await;
        }
    }

    /// Waits for the leadership, then relays until `stop` is cancelled. Fails if the connection is
    /// lost or the producer has a fatal error.
    async fn relay_as_leader(&self, stop: &CancellationToken) -> Result<()> {
        let mut connection = in_time(self.db.detached()).await?;
        while !in_time(repository::try_acquire_leadership(
            connection.untraced(),
            LOCK,
        ))
        .await?
        {
            if stop
                .run_until_cancelled(sleep(ELECTION_INTERVAL))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
        info!(name: "bookapp.outbox.relay.elected", "this instance became the leader of the outbox relay");
        let topics = self
            .config
            .service
            .kafka
            .create_topics(&TOPICS, book_events::PARTITIONS);
        let ready = self.measure_backlog_during(&mut connection, topics);
        match stop.run_until_cancelled(ready).await {
            Some(ready) => ready??,
            None => return Ok(()),
        }
        let producer = self.producer()?;
        if backlog(&mut connection).await?.rows > 0 {
            // The previous leader may still be sending these messages.
            stop.run_until_cancelled(sleep(SEND_TIMEOUT)).await;
        }
        let mut backoff = INITIAL_BACKOFF;
        let mut next_prune = Instant::now();
        while !stop.is_cancelled() {
            if next_prune <= Instant::now() && self.prune(&mut connection).await? {
                next_prune = Instant::now() + PRUNE_INTERVAL;
            }
            match self.relay_batch(&mut connection, &producer).await? {
                Some(BatchOutcome::Completed) => backoff = INITIAL_BACKOFF,
                Some(BatchOutcome::Incomplete) => {
                    if let Some((code, message)) = producer.fatal_error() {
                        anyhow::bail!("the Kafka producer has a fatal error: {code}: {message}");
                    }
                    let delay = self.measure_backlog_during(&mut connection, sleep(backoff));
                    stop.run_until_cancelled(delay).await.transpose()?;
                    backoff = MAX_BACKOFF.min(backoff * 2);
                }
                None => {
                    select! {
                        () = stop.cancelled() => {}
                        () = self.outbox.0.notified() => {}
                        () = sleep(POLL_INTERVAL) => {}
                    }
                }
            }
        }
        // Send the messages of the last requests, as long as Kafka accepts them.
        while self.relay_batch(&mut connection, &producer).await? == Some(BatchOutcome::Completed) {
        }
        Ok(())
    }

    /// Waits for `work`, and measures the backlog of the outbox in the meantime.
    async fn measure_backlog_during<T>(
        &self,
        connection: &mut Connection,
        work: impl Future<Output = T>,
    ) -> sqlx::Result<T> {
        let mut work = pin!(work);
        loop {
            self.gauges.set(backlog(connection).await?);
            select! {
                done = &mut work => return Ok(done),
                () = sleep(BACKLOG_INTERVAL) => {}
            }
        }
    }

    fn producer(&self) -> Result<Producer> {
        let mut config = self.config.service.kafka.client("bookapp");
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", SEND_TIMEOUT.as_millis().to_string());
        Producer::create(&config).context("could not create the Kafka producer")
    }

    /// Relays one batch. Returns `None`, and creates no span, if no message is pending.
    async fn relay_batch(
        &self,
        connection: &mut Connection,
        producer: &Producer,
    ) -> Result<Option<BatchOutcome>> {
        let backlog = backlog(connection).await?;
        self.gauges.set(backlog);
        if backlog.rows == 0 {
            return Ok(None);
        }
        let batch = info_span!(parent: None, "outbox.relay", bookapp.outbox.batch.size = Empty);
        let span = batch.clone();
        let relay = async {
            let outcome = self.send_batch(connection, producer, &span).await;
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
        &self,
        connection: &mut Connection,
        producer: &Producer,
        batch: &Span,
    ) -> sqlx::Result<BatchOutcome> {
        let mut rows = in_time(repository::pending(&mut *connection, BATCH_SIZE)).await?;
        // At most one message per book: the next one is sent after this one is acknowledged, which
        // keeps the order of the messages of a book.
        let mut keys = HashSet::new();
        rows.retain(|row| keys.insert(row.key.clone()));
        batch.record("bookapp.outbox.batch.size", rows.len().cast_signed() as i64);
        // The producer gets the messages in order; the broker acknowledges them concurrently.
        let sends: Vec<_> = rows.iter().map(|row| send(producer, row)).collect();
        let mut sent = Vec::with_capacity(rows.len());
        let mut failed = Vec::new();
        for (row, outcome) in rows.iter().zip(join_all(sends).await) {
            match outcome {
                Ok(_) => sent.push(row.id),
                Err(error) => failed.push((row.id, error)),
            }
        }
        if !sent.is_empty() {
            in_time(repository::mark_published(&mut *connection, &sent)).await?;
        }
        let (permanent, retryable): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(_, error)| is_permanent(error));
        for (id, error) in permanent {
            exception!(
                error,
                "bookapp.outbox.message.set_aside",
                &error,
                "message {id} was quarantined, because it can never be sent"
            );
            let reason = error.to_string();
            in_time(repository::quarantine(&mut *connection, id, &reason)).await?;
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
        Ok(BatchOutcome::Incomplete)
    }

    /// Prunes sent rows. Returns whether none is left whose retention time is over.
    async fn prune(&self, connection: &mut Connection) -> sqlx::Result<bool> {
        let retention = self.config.outbox_retention;
        let pruned = repository::prune_published(connection.untraced(), retention);
        let pruned = in_time(pruned).await?;
        if pruned > 0 {
            info!(name: "bookapp.outbox.pruned", "{pruned} sent messages pruned from the outbox");
        }
        Ok(pruned < repository::PRUNE_LIMIT)
    }
}

async fn backlog(connection: &mut Connection) -> sqlx::Result<Backlog> {
    in_time(repository::backlog(connection.untraced())).await
}

/// Waits for a step that uses the connection. Fails if the server does not answer in time.
async fn in_time<T>(step: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = timeout(STEP_TIMEOUT, step).await;
    answer.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
}

fn send(
    producer: &Producer,
    row: &repository::Row,
) -> impl Future<Output = KafkaResult<Delivery>> + use<> {
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
