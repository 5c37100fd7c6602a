//! `replay-dead-letters`: sends dead letters again to where they came from, their chain intact.

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

use super::dead_letters::{ATTEMPTS, ORIGIN, REASON, own_headers};
use crate::config::Config;

/// Remembers what was replayed.
const GROUP: &str = "backend-replay";
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends every dead letter that was not sent before; `dry_run` only lists them.
#[expect(clippy::print_stdout, reason = "the list is what the command answers")]
pub async fn replay(config: Config, dry_run: bool, stop: CancellationToken) -> Result<()> {
    let letters: StreamConsumer = config
        .service
        .kafka
        .client(GROUP)
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .create()
        .context("the consumer's settings are wrong")?;
    let mut producer = config.service.kafka.client(GROUP);
    producer.set("enable.idempotence", "true");
    let producer = Producer::create(&producer).context("the producer's settings are wrong")?;
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

/// Assigns what was not replayed before; answers how many letters each partition holds of it.
fn assign(letters: &StreamConsumer) -> Result<HashMap<i32, i64>> {
    let metadata = letters
        .fetch_metadata(Some(BOOK_ADDED_DEAD_LETTER), PATIENCE)
        .context("Kafka does not answer")?;
    let mut wanted = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        wanted.add_partition(BOOK_ADDED_DEAD_LETTER, partition.id());
    }
    let committed = letters
        .committed_offsets(wanted, PATIENCE)
        .context("could not read what was replayed before")?;
    let (mut assignment, mut left) = (TopicPartitionList::new(), HashMap::new());
    for partition in committed.elements() {
        let number = partition.partition();
        let (low, high) = letters.fetch_watermarks(BOOK_ADDED_DEAD_LETTER, number, PATIENCE)?;
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
        .context("could not take the partitions")?;
    Ok(left)
}

async fn send(producer: &Producer, letter: &OwnedMessage) -> Result<()> {
    let record = FutureRecord {
        topic: BOOK_ADDED,
        partition: None,
        payload: letter.payload(),
        key: letter.key(),
        timestamp: None,
        headers: Some(own_headers(letter)),
    };
    let sent = producer
        .send(record, None, &[&kafka::extract(letter)])
        .await;
    sent.map(drop).context("could not send a dead letter again")
}

fn commit(letters: &StreamConsumer, letter: &OwnedMessage) -> Result<()> {
    let mut next = TopicPartitionList::new();
    let offset = Offset::Offset(letter.offset() + 1);
    next.add_partition_offset(letter.topic(), letter.partition(), offset)?;
    letters
        .commit(&next, CommitMode::Sync)
        .context("could not remember what was replayed")
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
