//! The command `replay-dead-letters`: sends dead letters to their original topic. The trace context
//! in their headers stays the same.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    message::{Headers as _, OwnedMessage},
    metadata::MetadataTopic,
    producer::FutureRecord,
};
use telemetry_common::kafka::{self, Producer};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::dead_letters::{ATTEMPTS, ORIGIN, REASON, original_headers};
use crate::config::Config;

/// The consumer group whose committed offsets mark the replayed dead letters.
const GROUP: &str = "backend-replay";
/// The timeout of a request to Kafka.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Replays every dead letter that was not replayed before. `dry_run` only lists them.
#[expect(clippy::print_stdout, reason = "the list is the output of the command")]
pub async fn replay(config: Config, dry_run: bool, stop: CancellationToken) -> Result<()> {
    let letters: StreamConsumer = config
        .service
        .kafka
        .client(GROUP)
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .create()
        .context("could not create the Kafka consumer")?;
    let mut producer = config.service.kafka.client(GROUP);
    producer.set("enable.idempotence", "true");
    let producer = Producer::create(&producer).context("could not create the Kafka producer")?;
    let mut left = assign(&letters)?;
    let mut count = 0;
    while left.values().any(|left| *left > 0) {
        let Some(letter) = stop.run_until_cancelled(letters.recv()).await else {
            break;
        };
        let letter = letter.context("could not read a dead letter")?.detach();
        *left.entry(letter.partition()).or_default() -= 1;
        count += 1;
        println!("{}", describe(&letter));
        if !dry_run {
            send(&producer, &letter).await?;
            commit(&letters, &letter)?;
        }
    }
    let verb = if dry_run {
        "would be replayed"
    } else {
        "replayed"
    };
    println!("{count} dead letters {verb}");
    info!(name: "bookapp.dead_letters.replayed", "{count} dead letters {verb}");
    Ok(())
}

/// Assigns the partitions, starting after the last replayed dead letter. Returns the number of
/// remaining dead letters of each partition.
fn assign(letters: &StreamConsumer) -> Result<HashMap<i32, i64>> {
    let metadata = letters
        .fetch_metadata(Some(BOOK_ADDED_DEAD_LETTER), REQUEST_TIMEOUT)
        .context("could not fetch the partitions of the dead-letter topic")?;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        partitions.add_partition(BOOK_ADDED_DEAD_LETTER, partition.id());
    }
    let committed = letters
        .committed_offsets(partitions, REQUEST_TIMEOUT)
        .context("could not fetch the committed offsets")?;
    let (mut assignment, mut left) = (TopicPartitionList::new(), HashMap::new());
    for partition in committed.elements() {
        let number = partition.partition();
        let (low, high) =
            letters.fetch_watermarks(BOOK_ADDED_DEAD_LETTER, number, REQUEST_TIMEOUT)?;
        let from = partition
            .offset()
            .to_raw()
            .filter(|offset| *offset >= 0)
            .unwrap_or(low);
        let from = from.max(low);
        assignment.add_partition_offset(BOOK_ADDED_DEAD_LETTER, number, Offset::Offset(from))?;
        left.insert(number, high - from);
    }
    letters
        .assign(&assignment)
        .context("could not assign the partitions")?;
    Ok(left)
}

async fn send(producer: &Producer, letter: &OwnedMessage) -> Result<()> {
    let record = FutureRecord {
        topic: BOOK_ADDED,
        partition: None,
        payload: letter.payload(),
        key: letter.key(),
        timestamp: None,
        headers: Some(original_headers(letter)),
    };
    let sent = producer
        .send_created(record, None, &[&kafka::extract(letter)])
        .await;
    sent.map(drop).context("could not replay a dead letter")
}

fn commit(letters: &StreamConsumer, letter: &OwnedMessage) -> Result<()> {
    let mut next = TopicPartitionList::new();
    let offset = Offset::Offset(letter.offset() + 1);
    next.add_partition_offset(letter.topic(), letter.partition(), offset)?;
    letters
        .commit(&next, CommitMode::Sync)
        .context("could not commit the offset of a replayed dead letter")
}

fn describe(letter: &OwnedMessage) -> String {
    let header = |key| {
        let headers = letter
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter());
        let value = headers
            .filter(|header| header.key == key)
            .last()
            .and_then(|h| h.value);
        String::from_utf8_lossy(value.unwrap_or(b"?")).into_owned()
    };
    let key = String::from_utf8_lossy(letter.key().unwrap_or(b"-")).into_owned();
    format!(
        "{} key {key} reason {} attempts {} bytes {}",
        header(ORIGIN),
        header(REASON),
        header(ATTEMPTS),
        letter.payload().map_or(0, <[u8]>::len),
    )
}
