//! The way to Kafka.

use std::time::Duration;

use clap::{ArgAction, Args};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use telemetry_common::exception;
use tokio::time::sleep;
use tracing::info;

/// How long topics are asked for before the next try.
const RETRY: Duration = Duration::from_secs(2);

/// Where Kafka is.
#[derive(Args, Clone, Debug)]
pub struct KafkaConfig {
    /// Kafka brokers, separated by commas.
    #[arg(long, env, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub kafka_bootstrap_servers: String,

    /// Whether to create the topics at start.
    #[arg(long, env, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub kafka_create_topics: bool,
}

impl KafkaConfig {
    /// What every client starts from; `id` is its name in the broker's eyes.
    pub fn client(&self, id: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.kafka_bootstrap_servers);
        client.set("client.id", id);
        client
    }

    /// Sees to it that the topics exist, however long Kafka is away; a broker that creates topics
    /// by itself would give them the wrong number of partitions.
    pub async fn create_topics(&self, topics: &[&str], partitions: i32) -> KafkaResult<()> {
        if !self.kafka_create_topics {
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> = self.client("topics").create()?;
        let wanted: Vec<_> = topics
            .iter()
            .map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
        loop {
            match admin
                .create_topics(&wanted, &options)
                .await
                .and_then(settled)
            {
                Ok(()) => break,
                Err(error) => exception!(
                    warn,
                    "bookapp.kafka.topics.unavailable",
                    &error,
                    "no topics yet"
                ),
            }
            sleep(RETRY).await;
        }
        info!(name: "bookapp.kafka.topics.ready", "topics {} are there", topics.join(", "));
        Ok(())
    }
}

/// A topic that is there already is what was asked for.
fn settled(results: Vec<rdkafka::admin::TopicResult>) -> KafkaResult<()> {
    results.into_iter().try_for_each(|result| match result {
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
        Err((_, code)) => Err(KafkaError::AdminOp(code)),
    })
}
