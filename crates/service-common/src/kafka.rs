//! The settings of the Kafka clients, and the creation of topics.

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

/// The delay before the next attempt to create the topics.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// The settings of Kafka.
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
    /// Returns the common configuration of the Kafka clients. `id` is the `client.id`.
    pub fn client(&self, id: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.kafka_bootstrap_servers);
        client.set("client.id", id);
        // A broker that is gone without a word is noticed after this time, and the client connects
        // again.
        client.set("socket.timeout.ms", "10000");
        client.set("socket.connection.setup.timeout.ms", "5000");
        client.set("socket.keepalive.enable", "true");
        client
    }

    /// Creates the topics that do not exist. Retries until Kafka is available. Topics that the
    /// broker creates automatically would have the wrong number of partitions.
    pub async fn create_topics(&self, topics: &[&str], partitions: i32) -> KafkaResult<()> {
        if !self.kafka_create_topics {
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> = self.client("topics").create()?;
        let new_topics: Vec<_> = topics
            .iter()
            .map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(1)))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
        loop {
            match admin
                .create_topics(&new_topics, &options)
                .await
                .and_then(check_results)
            {
                Ok(()) => break,
                Err(error) => exception!(
                    warn,
                    "bookapp.kafka.topics.unavailable",
                    &error,
                    "the topics could not be created, retrying"
                ),
            }
            sleep(RETRY_DELAY).await;
        }
        info!(name: "bookapp.kafka.topics.ready", "topics {} are ready", topics.join(", "));
        Ok(())
    }
}

/// Returns the first error, except for topics that already exist.
fn check_results(results: Vec<rdkafka::admin::TopicResult>) -> KafkaResult<()> {
    results.into_iter().try_for_each(|result| match result {
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
        Err((_, code)) => Err(KafkaError::AdminOp(code)),
    })
}
