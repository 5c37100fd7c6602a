//! The Kafka consumer: receives messages, and acknowledges each one after it is completed.
//!
//! Delivery is at least once. The offset of a message is stored only after the message is
//! completed: it was processed, or sent to the dead-letter topic. Stored offsets are committed in
//! the background. Each partition processes its messages in order, and waits for none of the others: a
//! message that fails with a transient error, or whose dead letter cannot be sent, holds up its own
//! partition only.
//!
//! A partition processes together what has arrived while it was busy. So a message that comes alone waits
//! for no other, and the batches grow with the load.

mod batch;
mod lag;
mod liveness;
mod partitions;
mod processor;

use std::time::Duration;

use anyhow::{Context, Result};
use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER};
use futures::{StreamExt, stream::FuturesUnordered};
use rdkafka::{
    Message,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
};
use service_common::{fault_injection::FaultInjector, kafka::Topic};
use telemetry_common::{db::Database, exception, kafka::ClientLog};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
pub use liveness::Liveness;
use partitions::{Partition, PartitionId, Partitions};
use processor::Processor;

/// The topics that this service reads and writes.
pub(crate) const TOPICS: [Topic; 2] = [
    Topic {
        name: BOOK_EVENTS,
        has_dead_letters: false,
    },
    Topic {
        name: BOOK_EVENTS_DEAD_LETTER,
        has_dead_letters: true,
    },
];
/// The topics that this service reads. The second one is that of earlier releases, as a pattern, because
/// it need not exist.
const SUBSCRIPTION: [&str; 2] = [BOOK_EVENTS, r"^book\.added\.v1$"];
/// The consumer group.
pub const GROUP: &str = "backend";

/// The client id of the Kafka clients of this service.
const CLIENT: &str = "backend";

/// The interval in which the consumer loop polls if there is no message.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which nothing is received while a partition is full. If it is still full then, it is paused,
/// so that the others go on. A partition that is paused loses what librdkafka has fetched of it, so it costs
/// throughput.
const PATIENCE: Duration = Duration::from_millis(100);

/// Consumes and processes messages.
pub struct Consumer {
    messages: StreamConsumer<Liveness>,
    processor: Processor,
    liveness: Liveness,
    max_batch: usize,
}

/// The end of a batch.
struct Processed {
    partition: PartitionId,
    /// Cancelled if the partition was taken away meanwhile.
    revoked: CancellationToken,
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
            .set("queued.max.messages.kbytes", "16384") // what librdkafka fetches in advance
            .set("statistics.interval.ms", "500") // report the lag and the state of the group
            .create_with_context(liveness.clone())
            .context("could not create the Kafka consumer")?;
        Ok(Self {
            messages,
            processor: Processor::new(config, db, faults)?,
            liveness,
            max_batch: config.kafka_max_batch,
        })
    }

    /// Returns the state for the health checks.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Consumes messages until `stop` is cancelled. Then ends the running attempts and commits.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        self.messages
            .subscribe(&SUBSCRIPTION)
            .context("could not subscribe to the topics")?;
        let mut partitions = Partitions::default();
        let mut processing = FuturesUnordered::new();
        loop {
            self.liveness.record_poll();
            let is_full = partitions.full().next().is_some();
            let interval = if is_full { PATIENCE } else { POLL_INTERVAL };
            select! {
                biased;
                () = stop.cancelled() => break,
                () = self.liveness.revoked.notified() => partitions.remove(&self.liveness.revoked),
                Some(Processed { partition: (topic, number), revoked }) = processing.next() => {
                    if !revoked.is_cancelled() {
                        let partition = partitions.get(&topic, number);
                        partition.is_busy = false;
                        processing.extend(self.start_next(partition, &stop));
                    }
                }
                received = self.messages.recv(), if !is_full => match received {
                    Ok(message) => {
                        // Partitions may have been revoked and assigned again before this message.
                        partitions.remove(&self.liveness.revoked);
                        let partition = partitions.get(message.topic(), message.partition());
                        partition.push(message.detach());
                        processing.extend(self.start_next(partition, &stop));
                    }
                    Err(error) => ClientLog.record(&error, &error.to_string()),
                },
                () = sleep(interval) => partitions.full().for_each(|partition| self.pause(partition)),
            }
        }
        while processing.next().await.is_some() {}
        drop(processing);
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

    /// Starts to process the next messages of a partition that is not busy. Receives messages again if
    /// there is room for them.
    fn start_next<'c>(
        &'c self,
        partition: &mut Partition,
        stop: &CancellationToken,
    ) -> Option<impl Future<Output = Processed> + use<'c>> {
        if partition.is_busy {
            return None;
        }
        let messages = partition.take(self.max_batch);
        if partition.is_paused && partition.has_room() {
            self.resume(partition);
        }
        if messages.is_empty() {
            return None;
        }
        partition.is_busy = true;
        let (id, revoked, stop) = (partition.id(), partition.revoked(), stop.clone());
        Some(async move {
            let completed = |message: &OwnedMessage| self.store(message);
            let completing = self.processor.complete_all(&messages, &stop, completed);
            revoked.run_until_cancelled(completing).await;
            Processed {
                partition: id,
                revoked,
            }
        })
    }

    /// Stores the offset of a completed message, before which all are completed.
    fn store(&self, message: &OwnedMessage) {
        let (topic, number, offset) = (message.topic(), message.partition(), message.offset());
        if let Err(error) = self.messages.store_offset(topic, number, offset) {
            // The partition is being revoked: Kafka delivers the message to another worker.
            exception!(
                warn,
                "bookapp.consumer.store.failed",
                &error,
                "the offset could not be stored"
            );
        }
    }

    fn pause(&self, partition: &mut Partition) {
        match self.messages.pause(&partition.list()) {
            Ok(()) => partition.is_paused = true,
            Err(error) => exception!(
                warn,
                "bookapp.consumer.pause.failed",
                &error,
                "the partition could not be paused"
            ),
        }
    }

    fn resume(&self, partition: &mut Partition) {
        match self.messages.resume(&partition.list()) {
            Ok(()) => partition.is_paused = false,
            Err(error) => exception!(
                warn,
                "bookapp.consumer.resume.failed",
                &error,
                "the partition could not be resumed"
            ),
        }
    }
}
