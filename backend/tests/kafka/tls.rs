//! Tests of TLS and SASL, with a worker that has the feature `kafka-tls`.

use testbed::{
    broker::{STRANGER, USER},
    process::{Process, Signal, Spec},
};

use crate::{Kafka, SOON};

/// Starts the worker's binary with TLS, this user and password, and these settings.
fn start(kafka: &Kafka, (name, password): (&str, &str), settings: &[(&str, &str)]) -> Process {
    let certificate = kafka.broker.certificate.display().to_string();
    let spec = Spec::new("backend", env!("CARGO_BIN_EXE_backend"))
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .env("ADMIN_ADDR", "127.0.0.1:0")
        .env("OTEL_SDK_DISABLED", "true")
        .env("DATABASE_URL", &kafka.database_url)
        .env("KAFKA_BOOTSTRAP_SERVERS", &kafka.broker.secure_address)
        .env("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
        .env("KAFKA_SASL_USERNAME", name)
        .env("KAFKA_SASL_PASSWORD", password)
        .env("KAFKA_SSL_CA_LOCATION", &certificate);
    let spec = settings
        .iter()
        .fold(spec, |spec, (name, value)| spec.env(name, *value));
    Process::start(&spec).unwrap()
}

#[tokio::test]
#[ignore = "needs a real Kafka: cargo xtask kafka"]
async fn over_tls_the_worker_gets_its_partitions_and_each_refusal_is_one_line_without_the_password()
{
    let kafka = Kafka::start().await;
    let wrong = (USER.0, "wrong-secret");
    let other_authority = [(
        "KAFKA_SSL_CA_LOCATION",
        "/etc/ssl/certs/ca-certificates.crt",
    )];
    for (user, settings, expected) in [
        (USER, &[][..], "3 partitions assigned"),
        (USER, &[("KAFKA_SASL_MECHANISM", "PLAIN")], "are ready"),
        (
            wrong,
            &[],
            "SASL authentication error: Authentication failed",
        ),
        (USER, &other_authority, "certificate verify failed"),
        (STRANGER, &[], "TopicAuthorizationFailed"),
    ] {
        let process = start(&kafka, user, settings);
        let told = |line: &str| line.contains(expected).then_some(());
        process.line(SOON, told).await.unwrap();
        process.signal(Signal::SIGTERM);
        process.wait(SOON).await.unwrap();
        // The worker has several Kafka clients, and each of them retries.
        let lines = process.lines();
        let times = lines.iter().filter(|line| line.contains(expected)).count();
        assert_eq!(times, 1, "{lines:#?}");
        assert!(
            !lines.iter().any(|line| line.contains(user.1)),
            "{lines:#?}"
        );
    }
}
