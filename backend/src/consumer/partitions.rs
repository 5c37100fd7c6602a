//! The partitions of this worker. Each has a queue of received messages, and processes one batch of them
//! at a time.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rdkafka::{Message, TopicPartitionList, message::OwnedMessage};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The number of waiting messages from which a partition is full.
const MAX_MESSAGES: usize = 2048;
/// The size of the waiting messages from which a partition is full, in bytes.
const MAX_SIZE: usize = 4 << 20;

/// The topic and the number of a partition.
pub(super) type PartitionId = (String, i32);

/// A partition with messages.
#[derive(Debug)]
pub(super) struct Partition {
    topic: String,
    number: i32,
    queue: VecDeque<OwnedMessage>,
    /// The size of the messages in the queue, in bytes.
    size: usize,
    pub(super) is_busy: bool,
    pub(super) is_paused: bool,
    revoked: CancellationToken,
    /// Ends the processing of its messages when the partition is dropped.
    _revoke: DropGuard,
}

impl Partition {
    fn new(topic: &str, number: i32) -> Self {
        let revoked = CancellationToken::new();
        Self {
            topic: topic.to_owned(),
            number,
            queue: VecDeque::new(),
            size: 0,
            is_busy: false,
            is_paused: false,
            _revoke: revoked.clone().drop_guard(),
            revoked,
        }
    }

    /// Adds a message to the end of the queue.
    pub(super) fn push(&mut self, message: OwnedMessage) {
        self.size += size(&message);
        self.queue.push_back(message);
    }

    /// Removes the first messages of the queue, at most `max`.
    pub(super) fn take(&mut self, max: usize) -> Vec<OwnedMessage> {
        let count = self.queue.len().min(max);
        let messages: Vec<_> = self.queue.drain(..count).collect();
        self.size -= messages.iter().map(size).sum::<usize>();
        messages
    }

    /// Returns whether no more messages should be received for now.
    fn is_full(&self) -> bool {
        self.queue.len() >= MAX_MESSAGES || self.size >= MAX_SIZE
    }

    /// Returns whether messages should be received again.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() <= MAX_MESSAGES / 2 && self.size <= MAX_SIZE / 2
    }

    /// Returns the topic and the number.
    pub(super) fn id(&self) -> PartitionId {
        (self.topic.clone(), self.number)
    }

    /// Returns the token that is cancelled when Kafka takes the partition away.
    pub(super) fn revoked(&self) -> CancellationToken {
        self.revoked.clone()
    }

    /// Returns the partition as librdkafka's functions take it.
    pub(super) fn list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.topic, self.number);
        list
    }
}

fn size(message: &OwnedMessage) -> usize {
    message.payload().map_or(0, <[u8]>::len)
}

/// The partitions from which this worker has received messages. They are few, so a list is enough.
#[derive(Debug, Default)]
pub(super) struct Partitions(Vec<Partition>);

impl Partitions {
    /// Returns a partition. Adds it if it is not here.
    pub(super) fn get(&mut self, topic: &str, number: i32) -> &mut Partition {
        let known = |one: &Partition| one.number == number && one.topic == topic;
        let index = self.0.iter().position(known).unwrap_or_else(|| {
            self.0.push(Partition::new(topic, number));
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// Returns the partitions that are full and not paused.
    pub(super) fn full(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.0
            .iter_mut()
            .filter(|one| one.is_full() && !one.is_paused)
    }

    /// Drops partitions that Kafka has taken away, with their messages: another worker gets them, or this
    /// one gets them again.
    pub(super) fn remove(&mut self, revoked: &Revoked) {
        let revoked = revoked.take();
        self.0.retain(|one| {
            !revoked
                .iter()
                .any(|(topic, number)| one.number == *number && one.topic == *topic)
        });
    }
}

/// The partitions that Kafka has taken from this worker since the consumer loop last asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoked {
    partitions: Arc<Mutex<Vec<PartitionId>>>,
    notify: Arc<Notify>,
}

impl Revoked {
    /// Adds partitions that Kafka takes away.
    pub(super) fn add(&self, partitions: &TopicPartitionList) {
        let elements = partitions.elements();
        let elements = elements.iter();
        self.get()
            .extend(elements.map(|one| (one.topic().to_owned(), one.partition())));
        self.notify.notify_one();
    }

    /// Waits until partitions were revoked.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    fn take(&self) -> Vec<PartitionId> {
        mem::take(&mut *self.get())
    }

    fn get(&self) -> MutexGuard<'_, Vec<PartitionId>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::{Timestamp, message::ToBytes};

    use super::*;

    fn message(payload: &[u8]) -> OwnedMessage {
        let payload = Some(payload.to_bytes().to_vec());
        let topic = "topic".to_owned();
        OwnedMessage::new(payload, None, topic, Timestamp::NotAvailable, 0, 0, None)
    }

    #[test]
    fn a_queue_is_full_by_number_or_size_until_half_of_it_is_gone() {
        for (size, full) in [(1, MAX_MESSAGES), (MAX_SIZE / 4, 4)] {
            let mut partitions = Partitions::default();
            let partition = partitions.get("topic", 0);
            for _ in 0..full {
                assert!(!partition.is_full());
                partition.push(message(&vec![0; size]));
            }
            assert!(partition.is_full());
            for _ in 0..full / 2 {
                assert!(!partition.has_room());
                assert_eq!(partition.take(1).len(), 1);
            }
            assert!(partition.has_room());
        }
    }

    #[test]
    fn a_revoked_partition_is_empty_when_it_comes_back() {
        let mut partitions = Partitions::default();
        for number in [0, 1] {
            partitions.get("topic", number).push(message(b"old"));
        }
        let revoked = partitions.get("topic", 0).revoked();
        let taken = Revoked::default();
        let mut list = TopicPartitionList::new();
        list.add_partition("topic", 0);
        taken.add(&list);
        partitions.remove(&taken);
        assert!(revoked.is_cancelled());
        assert!(partitions.get("topic", 0).take(9).is_empty());
        assert_eq!(partitions.get("topic", 1).take(9).len(), 1);
    }
}
