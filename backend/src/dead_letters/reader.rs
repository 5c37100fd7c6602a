//! Reads the dead letters that are in Kafka now.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use book_events::{BOOK_ADDED_DEAD_LETTER, BOOK_EVENTS_DEAD_LETTER};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
};
use service_common::kafka::KafkaConfig;
use tokio::time::timeout;

use super::{commands::CLIENT, letter::Letter};

/// The time limit for an answer of Kafka.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of dead letters that are read at once.
const CHUNK_SIZE: usize = 500;

/// Reads the dead letters that are in their topics when it is opened, those of each partition in order.
pub(super) struct Reader {
    letters: StreamConsumer,
    /// For each partition that is not read to its end, the offset after the last dead letter.
    ends: HashMap<(String, i32), i64>,
}

impl Reader {
    /// Opens the topics. Those of earlier releases need not exist.
    pub(super) fn open(kafka: &KafkaConfig) -> Result<Self> {
        let letters: StreamConsumer = kafka
            .client(CLIENT)
            .set("group.id", CLIENT) // required, but nothing is committed
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest") // the oldest ones may be deleted meanwhile
            .create()
            .context("could not create the Kafka consumer")?;
        let metadata = letters
            .fetch_metadata(None, ANSWER_TIMEOUT)
            .context("could not read the topics of Kafka")?;
        let (mut assignment, mut ends) = (TopicPartitionList::new(), HashMap::new());
        for topic in metadata.topics() {
            let name = topic.name();
            if ![BOOK_EVENTS_DEAD_LETTER, BOOK_ADDED_DEAD_LETTER].contains(&name) {
                continue;
            }
            for partition in topic.partitions() {
                let number = partition.id();
                let (start, end) = letters
                    .fetch_watermarks(name, number, ANSWER_TIMEOUT)
                    .with_context(|| format!("could not read the offsets of {name}/{number}"))?;
                if start < end {
                    assignment.add_partition_offset(name, number, Offset::Offset(start))?;
                    ends.insert((name.to_owned(), number), end);
                }
            }
        }
        let mut known = metadata.topics().iter();
        ensure!(
            known.any(|topic| topic.name() == BOOK_EVENTS_DEAD_LETTER),
            "there is no topic {BOOK_EVENTS_DEAD_LETTER}, or this user may not read it"
        );
        letters
            .assign(&assignment)
            .context("could not assign the partitions")?;
        Ok(Self { letters, ends })
    }

    /// Reads the next dead letters, at most 500 and none only at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Letter>> {
        let mut chunk = Vec::new();
        while !self.ends.is_empty() && chunk.len() < CHUNK_SIZE {
            let received = timeout(ANSWER_TIMEOUT, self.letters.recv()).await;
            let message = received.context("Kafka does not answer")?;
            let message = message.context("could not read a dead letter")?.detach();
            let partition = (message.topic().to_owned(), message.partition());
            let Some(end) = self.ends.get(&partition) else {
                continue; // it was sent after the topics were opened
            };
            if message.offset() + 1 >= *end {
                self.ends.remove(&partition);
            }
            chunk.push(Letter(message));
        }
        Ok(chunk)
    }
}
