//! Kafka without a broker: librdkafka's mock cluster speaks the real protocol over TCP.
//!
//! It has no Admin API, so topics are made here and services run with
//! `KAFKA_CREATE_TOPICS=false`. It listens on 127.0.0.1, on a port of its own choice.

use anyhow::{Context, Result};
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

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
