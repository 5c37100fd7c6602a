//! The settings of the Kafka clients, and the creation of topics.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use clap::{ArgAction, Args, ValueEnum, value_parser};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use secrecy::{ExposeSecret, SecretString};
use telemetry_common::{exception, kafka::ClientLog};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::info;

/// The delay before the next attempt to create the topics.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// The time limit for an answer of Kafka.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a dead letter, in bytes: 1 MiB, as the broker's default for a message, and its
/// additional headers.
const DEAD_LETTER_SIZE: &str = "1114112";

/// The settings of Kafka.
#[derive(Args, Clone, Debug)]
pub struct KafkaConfig {
    /// Kafka brokers, separated by commas.
    #[arg(long, env, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub kafka_bootstrap_servers: String,

    /// Protocol of the connections to the brokers. All but `plaintext` need a binary with the feature
    /// `kafka-tls`.
    #[arg(long, env, default_value = "plaintext", value_name = "PROTOCOL")]
    pub kafka_security_protocol: SecurityProtocol,

    /// How the user authenticates, with `sasl_plaintext` and `sasl_ssl`.
    #[arg(long, env, default_value = "SCRAM-SHA-512", value_name = "MECHANISM")]
    pub kafka_sasl_mechanism: SaslMechanism,

    /// Name of the user.
    #[arg(long, env, value_name = "NAME")]
    pub kafka_sasl_username: Option<String>,

    /// Password of the user.
    #[arg(long, env, hide_env_values = true, value_name = "PASSWORD")]
    pub kafka_sasl_password: Option<SecretString>,

    /// File with the certificates of the authorities that sign the brokers' certificates, in PEM format
    /// [default: those of the system].
    #[arg(long, env, value_name = "FILE")]
    pub kafka_ssl_ca_location: Option<PathBuf>,

    /// Whether to create the topics at start, if they do not exist.
    #[arg(long, env, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub kafka_create_topics: bool,

    /// Number of partitions of a new topic. It limits the number of workers.
    #[arg(long, env, default_value_t = 3, value_parser = value_parser!(i32).range(1..), value_name = "N")]
    pub kafka_partitions: i32,

    /// Number of replicas of a new topic [default: that of the broker].
    #[arg(long, env, value_parser = value_parser!(i32).range(1..), value_name = "N")]
    pub kafka_replication_factor: Option<i32>,

    /// Retention time of a new topic with dead letters.
    #[arg(long, env, default_value = "30d", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub kafka_dead_letter_retention: Duration,
}

/// The protocol of the connections to the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// TCP.
    Plaintext,
    /// TLS.
    Ssl,
    /// TCP, with authentication.
    SaslPlaintext,
    /// TLS, with authentication.
    SaslSsl,
}

/// How the user authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SaslMechanism {
    /// The password is sent to the broker.
    #[value(name = "PLAIN")]
    Plain,
    /// The password is not sent.
    #[value(name = "SCRAM-SHA-512")]
    ScramSha512,
}

/// A topic to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name of the topic.
    pub name: &'static str,
    /// Whether it has dead letters, which are kept for longer.
    pub has_dead_letters: bool,
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
        let protocol = self.kafka_security_protocol.to_possible_value();
        client.set(
            "security.protocol",
            protocol.expect("no value is skipped").get_name(),
        );
        if self.has_user() {
            let mechanism = self.kafka_sasl_mechanism.to_possible_value();
            client.set(
                "sasl.mechanism",
                mechanism.expect("no value is skipped").get_name(),
            );
            if let Some(name) = &self.kafka_sasl_username {
                client.set("sasl.username", name);
            }
            if let Some(password) = &self.kafka_sasl_password {
                client.set("sasl.password", password.expose_secret());
            }
        }
        if let Some(authorities) = &self.kafka_ssl_ca_location {
            client.set("ssl.ca.location", authorities.to_string_lossy());
        }
        client
    }

    fn has_user(&self) -> bool {
        matches!(
            self.kafka_security_protocol,
            SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl
        )
    }

    /// Checks the settings that depend on each other. The error is one line, without the password.
    pub fn check(&self) -> Result<()> {
        ensure!(
            cfg!(feature = "kafka-tls")
                || self.kafka_security_protocol == SecurityProtocol::Plaintext,
            "KAFKA_SECURITY_PROTOCOL: this binary was built without the feature kafka-tls"
        );
        ensure!(
            !self.has_user()
                || (self.kafka_sasl_username.is_some() && self.kafka_sasl_password.is_some()),
            "KAFKA_SECURITY_PROTOCOL: KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are not set"
        );
        if let Some(authorities) = &self.kafka_ssl_ca_location {
            let file = authorities.display();
            ensure!(
                authorities.is_file(),
                "KAFKA_SSL_CA_LOCATION: there is no file {file}"
            );
        }
        Ok(())
    }

    /// Creates the topics that do not exist. Retries until Kafka is available. Topics that the
    /// broker creates automatically would have the wrong number of partitions.
    pub async fn create_topics(&self, topics: &[Topic]) -> KafkaResult<()> {
        if !self.kafka_create_topics {
            return Ok(());
        }
        let admin: Arc<AdminClient<_>> =
            Arc::new(self.client("topics").create_with_context(ClientLog)?);
        let mut failure = None;
        while let Err(error) = self.create_missing(&admin, topics).await {
            // The client logs why Kafka does not answer.
            let has_answer =
                error.rdkafka_error_code() != Some(RDKafkaErrorCode::OperationTimedOut);
            if has_answer && failure.as_ref() != Some(&error) {
                exception!(
                    warn,
                    "bookapp.kafka.topics.unavailable",
                    &error,
                    "the topics could not be created, retrying"
                );
            }
            failure = Some(error);
            sleep(RETRY_DELAY).await;
        }
        let names: Vec<_> = topics.iter().map(|topic| topic.name).collect();
        info!(name: "bookapp.kafka.topics.ready", "topics {} are ready", names.join(", "));
        Ok(())
    }

    async fn create_missing(
        &self,
        admin: &Arc<AdminClient<ClientLog>>,
        topics: &[Topic],
    ) -> KafkaResult<()> {
        let retention = self.kafka_dead_letter_retention.as_millis().to_string();
        let new_topics = topics.iter().map(|topic| {
            let replication = TopicReplication::Fixed(self.kafka_replication_factor.unwrap_or(-1));
            let new = NewTopic::new(topic.name, self.kafka_partitions, replication);
            if topic.has_dead_letters {
                new.set("retention.ms", &retention)
                    .set("max.message.bytes", DEAD_LETTER_SIZE)
            } else {
                new
            }
        });
        let new_topics: Vec<_> = new_topics.collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let mut refused = Vec::new();
        for result in admin.create_topics(&new_topics, &options).await? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, RDKafkaErrorCode::TopicAuthorizationFailed)) => refused.push(name),
                Err((_, code)) => return Err(KafkaError::AdminOp(code)),
            }
        }
        // Who may not create a topic is refused also if it exists.
        if !refused.is_empty() && !exist(admin, refused).await? {
            let code = RDKafkaErrorCode::TopicAuthorizationFailed;
            return Err(KafkaError::AdminOp(code));
        }
        Ok(())
    }
}

/// Returns whether all these topics exist.
async fn exist(admin: &Arc<AdminClient<ClientLog>>, names: Vec<String>) -> KafkaResult<bool> {
    let admin = Arc::clone(admin);
    let asking = spawn_blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, ANSWER_TIMEOUT)?;
        let exists = |name: &String| metadata.topics().iter().any(|topic| topic.name() == name);
        Ok(names.iter().all(exists))
    });
    asking.await.unwrap_or(Err(KafkaError::Canceled))
}
