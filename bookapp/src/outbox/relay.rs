//! The relay: sends the pending messages of the outbox to Kafka in order, and marks each one as
//! sent after the broker has acknowledged it.
//!
//! Only one instance relays at a time, the leader. It reads and marks rows on the connection that
//! holds the leadership, so it loses both together. A message that was sent but not marked is sent
//! again; the worker ignores the duplicate.
//!
//! A leader that loses its connection may still be sending. So the next one waits for as long as the
//! last one may take from reading a row to the end of sending its message. Only a process that the
//! operating system stops exactly between its look at the clock and the sending may take longer; then
//! two messages of a book can be sent out of order.

use std::{
    collections::HashSet,
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
use service_common::{health::Heartbeat, pruning::PRUNE_LIMIT};
use telemetry_common::{
    db::{Connection, Database},
    exception,
    kafka::Producer,
    record_failure,
};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty, info, info_span, instrument};

use super::{
    RelayNotifier, TOPICS,
    backlog::Gauges,
    held_keys::{HeldKeys, INITIAL_BACKOFF, MAX_BACKOFF},
    leadership::{Leadership, in_time},
    repository,
};
use crate::{config::Config, metrics::Metrics};

/// The maximum number of messages in a batch.
const BATCH_SIZE: i64 = 100;
/// The interval of polling for rows of other instances.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The interval of trying to become the leader.
const ELECTION_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum time from reading rows to sending their messages.
const MAX_ROW_AGE: Duration = Duration::from_secs(1);
/// The time limit for the broker's acknowledgement of a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(4);
/// The time after which no message of a former leader is on its way.
const TAKEOVER_DELAY: Duration = Duration::from_secs(5);
const _: () = assert!(
    MAX_ROW_AGE.as_secs() + SEND_TIMEOUT.as_secs() == TAKEOVER_DELAY.as_secs(),
    "a new leader waits for both"
);
/// The interval of the heartbeat and of measuring the backlog while the relay waits.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);
/// The interval of pruning sent rows whose retention time is over. If a statement leaves some, the next
/// turn of the relay prunes again.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// Sends the messages of the outbox to Kafka.
pub struct Relay {
    config: Config,
    db: Database,
    outbox: RelayNotifier,
    gauges: Gauges,
    heartbeat: Heartbeat,
    quarantined: Counter<u64>,
}

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchOutcome {
    /// The relay can go on: all messages were sent or quarantined, or the keys of the others are held.
    Completed,
    /// The relay must wait before it sends again.
    Failed,
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
            heartbeat: Heartbeat::new(),
            quarantined: metrics.quarantined.clone(),
        }
    }

    /// Returns the heartbeat, which beats at least every 20 s as long as the relay works.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Relays until `drain` is cancelled. Restarts after a failure. From then on, another instance may
    /// lead. After `served` is cancelled, sends the messages of the last requests if none does.
    pub async fn run(self, drain: CancellationToken, served: CancellationToken) {
        while !drain.is_cancelled() {
            if let Err(error) = self.lead(&drain).await {
                log_failure(&error);
                drain.run_until_cancelled(sleep(INITIAL_BACKOFF)).await;
            }
            self.gauges.clear();
        }
        served.run_until_cancelled(self.beat()).await;
        if let Err(error) = self.send_rest().await {
            log_failure(&error);
        }
    }

    async fn beat(&self) {
        loop {
            self.heartbeat.beat();
            sleep(WAIT_INTERVAL).await;
        }
    }

    /// Waits for the leadership, then relays until `stop` is cancelled. Fails if the connection is
    /// lost or the producer has a fatal error.
    async fn lead(&self, stop: &CancellationToken) -> Result<()> {
        let Some(mut leadership) = self.elect(stop).await? else {
            return Ok(());
        };
        info!(name: "bookapp.outbox.relay.elected", "this instance became the leader of the outbox relay");
        // Before it sends, it leaves the leadership as it found it.
        let prepared = self.prepare(&mut leadership);
        let Some(prepared) = stop.run_until_cancelled(prepared).await else {
            return Ok(());
        };
        prepared?;
        self.relay(&mut leadership.connection, stop).await?;
        Ok(leadership.end().await?)
    }

    /// Waits for the topics, and for the messages of a former leader that has not settled.
    async fn prepare(&self, leadership: &mut Leadership) -> Result<()> {
        let connection = &mut leadership.connection;
        let kafka = &self.config.service.kafka;
        let topics = kafka.create_topics(&TOPICS, book_events::PARTITIONS);
        self.wait_for(connection, topics).await??;
        let is_pending = in_time(repository::is_pending(connection.untraced(), &[])).await?;
        if is_pending && !leadership.predecessor_has_settled {
            self.wait_for(connection, sleep(TAKEOVER_DELAY)).await?;
        }
        Ok(())
    }

    /// Waits until this instance is the leader. Returns `None` if `stop` is cancelled before.
    async fn elect(&self, stop: &CancellationToken) -> Result<Option<Leadership>> {
        self.heartbeat.beat();
        let mut connection = self.db.connect().await?;
        loop {
            self.heartbeat.beat();
            connection = match Leadership::try_begin(connection).await? {
                Ok(leadership) => return Ok(Some(leadership)),
                Err(connection) => connection,
            };
            let pause = sleep(ELECTION_INTERVAL);
            if stop.run_until_cancelled(pause).await.is_none() {
                return Ok(None);
            }
        }
    }

    /// Sends and prunes until `stop` is cancelled. When it returns, no message is on its way.
    async fn relay(&self, connection: &mut Connection, stop: &CancellationToken) -> Result<()> {
        let producer = self.producer()?;
        let mut held_keys = HeldKeys::default();
        let mut backoff = INITIAL_BACKOFF;
        let mut next_prune = Instant::now();
        while !stop.is_cancelled() {
            self.heartbeat.beat();
            self.gauges.measure(connection).await?;
            if next_prune <= Instant::now() && self.prune(connection).await? {
                next_prune = Instant::now() + PRUNE_INTERVAL;
            }
            let outcome = self.relay_batch(connection, &producer, &mut held_keys);
            match outcome.await? {
                Some(BatchOutcome::Completed) => backoff = INITIAL_BACKOFF,
                Some(BatchOutcome::Failed) => {
                    let delay = self.wait_for(connection, sleep(backoff));
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
        Ok(())
    }

    /// Sends the pending messages, as long as Kafka accepts them, unless another instance leads.
    async fn send_rest(&self) -> Result<()> {
        let mut connection = self.db.connect().await?;
        if !in_time(repository::is_pending(connection.untraced(), &[])).await? {
            return Ok(());
        }
        let Ok(mut leadership) = Leadership::try_begin(connection).await? else {
            return Ok(());
        };
        if leadership.predecessor_has_settled {
            let (connection, producer) = (&mut leadership.connection, self.producer()?);
            let mut held_keys = HeldKeys::default();
            while let Some(BatchOutcome::Completed) = self
                .relay_batch(connection, &producer, &mut held_keys)
                .await?
            {}
            leadership.end().await?;
        }
        Ok(())
    }

    /// Waits for `work`. In the meantime, the heart beats, and the backlog is measured.
    async fn wait_for<T>(
        &self,
        connection: &mut Connection,
        work: impl Future<Output = T>,
    ) -> sqlx::Result<T> {
        let mut work = pin!(work);
        loop {
            self.heartbeat.beat();
            self.gauges.measure(connection).await?;
            select! {
                done = &mut work => return Ok(done),
                () = sleep(WAIT_INTERVAL) => {}
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
        held_keys: &mut HeldKeys,
    ) -> Result<Option<BatchOutcome>> {
        if let Some((code, message)) = producer.fatal_error() {
            anyhow::bail!("the Kafka producer has a fatal error: {code}: {message}");
        }
        let waiting = held_keys.waiting();
        if !in_time(repository::is_pending(connection.untraced(), &waiting)).await? {
            return Ok(None);
        }
        let batch = info_span!(parent: None, "outbox.relay", bookapp.outbox.batch.size = Empty);
        let span = batch.clone();
        let relay = async {
            let outcome = self.send_batch(connection, producer, held_keys, &waiting, &span);
            outcome
                .await
                .inspect_err(|error| record_failure("database", error))
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
        held_keys: &mut HeldKeys,
        waiting: &[String],
        batch: &Span,
    ) -> sqlx::Result<BatchOutcome> {
        let read_at = Instant::now();
        let mut rows = in_time(repository::pending(&mut *connection, waiting, BATCH_SIZE)).await?;
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
        let sends: Vec<_> = rows.iter().map(|row| send(producer, row)).collect();
        let mut sent = Vec::with_capacity(rows.len());
        let mut failed = Vec::new();
        for (row, outcome) in rows.iter().zip(join_all(sends).await) {
            match outcome {
                Ok(_) => {
                    sent.push(row.id);
                    held_keys.release(&row.key);
                }
                Err(error) => failed.push((row, error)),
            }
        }
        if !sent.is_empty() {
            in_time(repository::mark_published(&mut *connection, &sent)).await?;
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
            in_time(repository::quarantine(&mut *connection, row.id, &reason)).await?;
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
        if !is_kafka && retryable.iter().all(|(row, _)| held_keys.hold(&row.key)) {
            Ok(BatchOutcome::Completed)
        } else {
            Ok(BatchOutcome::Failed)
        }
    }

    /// Prunes sent rows. Returns whether none is left whose retention time is over.
    async fn prune(&self, connection: &mut Connection) -> sqlx::Result<bool> {
        let retention = self.config.outbox_retention;
        let pruned = repository::prune_published(connection.untraced(), retention);
        let pruned = in_time(pruned).await?;
        if pruned > 0 {
            info!(name: "bookapp.outbox.pruned", "{pruned} sent messages pruned from the outbox");
        }
        Ok(pruned < PRUNE_LIMIT)
    }
}

fn log_failure(error: &anyhow::Error) {
    exception!(
        warn,
        "bookapp.outbox.relay.failed",
        &**error,
        "the outbox relay failed and will restart"
    );
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
