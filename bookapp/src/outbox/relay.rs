//! Sends what the outbox holds, in order, and marks it sent once the broker has acknowledged it.
//!
//! One relay at a time among all instances: it holds an advisory lock on a connection of its own,
//! reads and marks on that same connection, and so loses the lead with it. What was sent and not
//! marked is sent again; the worker's ledger makes that one effect.

use std::{
    collections::HashSet,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::join_all;
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
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty, info, info_span};

use super::{Outbox, TOPICS, backlog::Gauges, repository};
use crate::config::Config;

/// The advisory lock of the relay: any number that nothing else in this database locks.
const LOCK: i64 = 0x0b00_4a99;
const BATCH: i64 = 100;
/// How often rows of other instances are looked for.
const POLL: Duration = Duration::from_millis(200);
/// How long to wait after the first failure; twice as long after each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the broker may take to acknowledge a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the backlog is measured while nothing can be sent.
const WATCH: Duration = Duration::from_secs(1);
/// How often sent rows are removed whose time is over.
const TIDY_UP: Duration = Duration::from_mins(1);

/// The sending half of the outbox.
pub struct Relay {
    config: Config,
    db: Database,
    outbox: Outbox,
    gauges: Gauges,
}

/// How a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Everything was sent or set aside.
    Clean,
    /// Some of it must wait.
    Failed,
}

impl Relay {
    /// A relay that is woken by `outbox`; Kafka need not be there yet.
    pub fn new(config: &Config, db: Database, outbox: Outbox) -> Self {
        Self {
            config: config.clone(),
            db,
            outbox,
            gauges: Gauges::observed(),
        }
    }

    /// Relays until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Err(error) = self.lead(&stop).await else {
                return;
            };
            self.gauges.clear();
            exception!(
                warn,
                "bookapp.outbox.relay.failed",
                &*error,
                "the relay starts anew"
            );
            stop.run_until_cancelled(sleep(FIRST_PAUSE)).await;
        }
    }

    /// Waits for the lead, then relays until told to stop, or until the connection or the producer
    /// is lost.
    async fn lead(&self, stop: &CancellationToken) -> Result<()> {
        let mut connection = self.db.detached().await?;
        while !repository::try_lead(connection.untraced(), LOCK).await? {
            if stop.run_until_cancelled(sleep(FIRST_PAUSE)).await.is_none() {
                return Ok(());
            }
        }
        info!(name: "bookapp.outbox.relay.elected", "this instance relays the outbox");
        let topics = self
            .config
            .service
            .kafka
            .create_topics(&TOPICS, book_events::PARTITIONS);
        let ready = self.watch(&mut connection, topics);
        match stop.run_until_cancelled(ready).await {
            Some(ready) => ready??,
            None => return Ok(()),
        }
        let producer = self.producer()?;
        if repository::backlog(connection.untraced()).await?.rows > 0 {
            // Whoever led before may still be sending these.
            stop.run_until_cancelled(sleep(SEND_TIMEOUT)).await;
        }
        let mut pause = FIRST_PAUSE;
        let mut tidied_up = None;
        while !stop.is_cancelled() {
            match self.turn(&mut connection, &producer).await? {
                Some(Turn::Clean) => pause = FIRST_PAUSE,
                Some(Turn::Failed) => {
                    if let Some((code, text)) = producer.fatal_error() {
                        anyhow::bail!("the producer is lost: {code}: {text}");
                    }
                    let waiting = self.watch(&mut connection, sleep(pause));
                    stop.run_until_cancelled(waiting).await.transpose()?;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                None => {
                    if tidied_up.is_none_or(|last: Instant| last.elapsed() > TIDY_UP) {
                        self.tidy_up(&mut connection).await?;
                        tidied_up = Some(Instant::now());
                    }
                    select! {
                        () = stop.cancelled() => {}
                        () = self.outbox.0.notified() => {}
                        () = sleep(POLL) => {}
                    }
                }
            }
        }
        // What the last requests left, as long as Kafka takes it.
        while self.turn(&mut connection, &producer).await? == Some(Turn::Clean) {}
        Ok(())
    }

    /// Waits for `work`, and measures meanwhile how much waits in the outbox.
    async fn watch<T>(
        &self,
        connection: &mut Connection,
        work: impl Future<Output = T>,
    ) -> sqlx::Result<T> {
        let mut work = pin!(work);
        loop {
            self.gauges
                .show(repository::backlog(connection.untraced()).await?);
            select! {
                done = &mut work => return Ok(done),
                () = sleep(WATCH) => {}
            }
        }
    }

    fn producer(&self) -> Result<Producer> {
        let mut config = self.config.service.kafka.client("bookapp");
        config.set("enable.idempotence", "true");
        config.set("message.timeout.ms", SEND_TIMEOUT.as_millis().to_string());
        Producer::create(&config).context("the producer's settings are wrong")
    }

    /// Relays one batch; `None` when nothing waits, and then without a span.
    async fn turn(&self, connection: &mut Connection, producer: &Producer) -> Result<Option<Turn>> {
        let backlog = repository::backlog(connection.untraced()).await?;
        self.gauges.show(backlog);
        if backlog.rows == 0 {
            return Ok(None);
        }
        let batch = info_span!(parent: None, "outbox.relay", bookapp.outbox.batch.size = Empty);
        let relay = async {
            let turn = self.relay(connection, producer).await;
            turn.inspect_err(|error| record_failure("database", error))
        };
        Ok(Some(relay.instrument(batch).await?))
    }

    async fn relay(&self, connection: &mut Connection, producer: &Producer) -> sqlx::Result<Turn> {
        let mut rows = repository::waiting(&mut *connection, BATCH).await?;
        // One message of a book at a time: the next one waits until this one is acknowledged.
        let mut keys = HashSet::new();
        rows.retain(|row| keys.insert(row.key.clone()));
        Span::current().record("bookapp.outbox.batch.size", rows.len().cast_signed() as i64);
        // Handed over in order, acknowledged side by side.
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
            repository::mark_published(&mut *connection, &sent).await?;
        }
        let (hopeless, waiting): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(_, error)| is_hopeless(error));
        for (id, error) in hopeless {
            exception!(
                error,
                "bookapp.outbox.message.set_aside",
                &error,
                "message {id} can never be sent, it is set aside"
            );
            repository::set_aside(&mut *connection, id, &error.to_string()).await?;
        }
        let Some((_, error)) = waiting.first() else {
            return Ok(Turn::Clean);
        };
        record_failure("unsent", error);
        let (left, all) = (waiting.len(), rows.len());
        exception!(
            warn,
            "bookapp.outbox.messages.wait",
            error,
            "{left} of {all} messages not sent, they wait"
        );
        Ok(Turn::Failed)
    }

    async fn tidy_up(&self, connection: &mut Connection) -> sqlx::Result<()> {
        let retention = self.config.outbox_retention;
        let removed = repository::remove_published(connection.untraced(), retention).await?;
        if removed > 0 {
            info!(name: "bookapp.outbox.tidied_up", "{removed} sent messages removed from the outbox");
        }
        Ok(())
    }
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
    producer.send(record, Some(&row.event_id), &[&row.headers.context()])
}

/// Whether no other try can go well: it is the message that is wrong, not the time.
fn is_hopeless(error: &KafkaError) -> bool {
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
