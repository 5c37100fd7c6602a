//! Kafka without a real broker: librdkafka's mock cluster, which implements the protocol over TCP.
//!
//! The mock cluster has no Admin API: [`Kafka::start`] creates the topics, and services run with
//! `KAFKA_CREATE_TOPICS=false`. The cluster listens on 127.0.0.1, on a port that it chooses.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    message::OwnedMessage,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::timeout;

use crate::process::while_no_child_starts;

/// The maximum time to wait for a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// The number of partitions of each topic.
pub const PARTITIONS: i32 = 3;

/// A mock cluster. It stops on drop.
pub struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Kafka {
    /// Starts a cluster with one broker and creates these topics.
    pub fn start(topics: &[&str]) -> Result<Self> {
        Self::start_with_brokers(1, topics)
    }

    /// Starts a cluster and creates these topics. The brokers have the numbers 1, 2, ….
    pub fn start_with_brokers(brokers: i32, topics: &[&str]) -> Result<Self> {
        let cluster = MockCluster::new(brokers).context("could not start the mock cluster")?;
        for topic in topics {
            cluster
                .create_topic(topic, PARTITIONS, 1)
                .with_context(|| format!("could not create topic {topic}"))?;
        }
        Ok(Self { cluster })
    }

    /// Returns the value for `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Consumes the first `count` messages of a topic, in the order of delivery.
    pub async fn messages(&self, topic: &str, count: usize) -> Result<Vec<OwnedMessage>> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap_servers())
            .set("group.id", "testbed")
            .set("group.protocol", "consumer")
            .set("auto.offset.reset", "earliest")
            .create()?;
        consumer.subscribe(&[topic])?;
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            let received = timeout(MESSAGE_TIMEOUT, consumer.recv()).await;
            let received = received.with_context(|| {
                format!(
                    "received {} of {count} messages from {topic}",
                    messages.len()
                )
            })?;
            messages.push(received?.detach());
        }
        Ok(messages)
    }

    /// Rejects the next `times` produce requests with `MSG_SIZE_TOO_LARGE`.
    pub fn reject_next(&self, times: usize) {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        self.cluster
            .request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
    }

    /// Lets the next producer fail with a fatal error: it never sends.
    pub fn refuse_next_producer(&self) {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        self.cluster
            .request_errors(RDKafkaApiKey::InitProducerId, &[error]);
    }

    /// Lets a topic accept no messages, or accept them again.
    pub fn set_unavailable(&self, topic: &str, is_unavailable: bool) -> Result<()> {
        let error = if is_unavailable {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
        } else {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        };
        self.cluster
            .topic_error(topic, error)
            .context("could not change the topic")
    }

    /// Returns the number of messages in a topic.
    pub fn count(&self, topic: &str) -> Result<i64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap_servers())
            .create()?;
        (0..PARTITIONS).try_fold(0, |count, partition| {
            let (low, high) = consumer.fetch_watermarks(topic, partition, MESSAGE_TIMEOUT)?;
            Ok(count + high - low)
        })
    }

    /// Lets the broker answer no request, or lets it answer again, also those of before. A host that is
    /// lost does not: the cluster cannot be put behind a proxy, because its clients learn its address.
    pub fn set_dark(&self, is_dark: bool) -> Result<()> {
        let delay = Duration::from_mins(if is_dark { 60 } else { 0 });
        self.cluster
            .broker_round_trip_time(1, delay)
            .context("could not delay the broker's answers")
    }

    /// Makes a broker the leader of a partition.
    pub fn set_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<()> {
        self.cluster
            .partition_leader(topic, partition, Some(broker))
            .context("could not set the leader")
    }

    /// Stops a broker: its port closes.
    pub fn stop_broker(&self, broker: i32) -> Result<()> {
        // The cluster closes the port and opens it again, to keep it, and aborts the process if it is in use.
        while_no_child_starts(|| self.cluster.broker_down(broker))
            .context("could not stop the broker")
    }

    /// Starts a stopped broker again, with its messages.
    pub fn restart_broker(&self, broker: i32) -> Result<()> {
        self.cluster
            .broker_up(broker)
            .context("could not restart the broker")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::Command,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;
    use crate::process::launch;

    /// The process aborts if the port of the broker is in use.
    #[test]
    fn a_broker_stops_while_children_start() {
        let kafka = Kafka::start(&[]).unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    launch(Command::new("true")).unwrap().wait().unwrap();
                }
            });
            for _ in 0..20 {
                kafka.stop_broker(1).unwrap();
                kafka.restart_broker(1).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }
}
