//! Kafka without a broker: librdkafka's mock cluster speaks the real protocol over TCP.
//!
//! It has no Admin API, so topics are made here and services run with
//! `KAFKA_CREATE_TOPICS=false`. It listens on 127.0.0.1, on a port of its own choice.

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

/// How long a message is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A one-broker cluster; gone on drop.
pub struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Kafka {
    /// Starts the cluster with these topics, of `partitions` each.
    pub fn start(topics: &[&str], partitions: i32) -> Result<Self> {
        let cluster = MockCluster::new(1).context("could not start the mock cluster")?;
        for topic in topics {
            cluster
                .create_topic(topic, partitions, 1)
                .with_context(|| format!("could not create topic {topic}"))?;
        }
        Ok(Self { cluster })
    }

    /// What clients connect to.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The first `count` messages of a topic, as they come.
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
            let received = timeout(PATIENCE, consumer.recv()).await;
            let received = received
                .with_context(|| format!("{topic} holds {} of {count} messages", messages.len()))?;
            messages.push(received?.detach());
        }
        Ok(messages)
    }

    /// Refuses the next `times` messages as too large.
    pub fn refuse(&self, times: usize) {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        self.cluster
            .request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
    }

    /// How many messages a topic holds.
    pub fn count(&self, topic: &str, partitions: i32) -> Result<i64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap_servers())
            .create()?;
        (0..partitions).try_fold(0, |count, partition| {
            let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
            Ok(count + high - low)
        })
    }

    /// Takes the broker away.
    pub fn take_away(&self) -> Result<()> {
        self.cluster
            .broker_down(1)
            .context("could not take the broker away")
    }

    /// Brings it back.
    pub fn bring_back(&self) -> Result<()> {
        self.cluster
            .broker_up(1)
            .context("could not bring the broker back")
    }
}
