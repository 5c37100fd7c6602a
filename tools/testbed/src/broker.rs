//! A real Kafka: one broker as a process, in KRaft mode, from the jars that `stack/kafka/pom.xml` declares.
//!
//! It has two listeners: one without authentication, where everybody may do everything, and one with TLS
//! and SASL, where [`USER`] may do everything and [`STRANGER`] nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rcgen::CertifiedKey;

use crate::{
    port,
    process::{Process, Signal, Spec},
    tls::certificate,
};

/// The name and password of the user who may do everything.
pub const USER: (&str, &str) = ("bookapp", "bookapp-secret");
/// The name and password of the user who may do nothing.
pub const STRANGER: (&str, &str) = ("stranger", "stranger-secret");

/// A broker. It stops on drop.
pub struct Broker {
    /// The address of the listener without authentication.
    pub address: String,
    /// The address of the listener with TLS and SASL.
    pub secure_address: String,
    /// The file with the broker's certificate, in PEM format.
    pub certificate: PathBuf,
    process: Process,
    spec: Spec,
}

impl Broker {
    /// Starts a broker from the jars in `jars`, with its data in `data`.
    pub async fn start(root: &Path, jars: &Path, data: &Path) -> Result<Self> {
        fs::create_dir_all(data)?;
        let ports = [port::free()?, port::free()?, port::free()?];
        let CertifiedKey { cert, signing_key } = certificate()?;
        let certificate = data.join("certificate.pem");
        fs::write(&certificate, cert.pem())?;
        let keystore = data.join("keystore.pem");
        fs::write(&keystore, signing_key.serialize_pem() + &cert.pem())?;
        let settings = data.join("server.properties");
        fs::write(&settings, properties(ports, data, &keystore))?;
        let jars = jars.join("*").display().to_string();
        let id = java(&jars, &["kafka.tools.StorageTool", "random-uuid"])?;
        let settings = settings.display().to_string();
        let [user, stranger] = [USER, STRANGER]
            .map(|(name, password)| format!("SCRAM-SHA-512=[name={name},password={password}]"));
        let format = [
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            &id,
            "-c",
            &settings,
            "--add-scram",
            &user,
            "--add-scram",
            &stranger,
        ];
        java(&jars, &format)?;
        let log = format!(
            "-Dlog4j2.configurationFile={}",
            root.join("stack/kafka/log4j2.xml").display()
        );
        let spec = Spec {
            stop_signal: Signal::SIGTERM,
            ..Spec::new("kafka", "java")
        };
        let spec = [
            "-Xmx384m",
            "-Xms256m",
            &log,
            "-cp",
            &jars,
            "kafka.Kafka",
            &settings,
        ]
        .iter()
        .fold(spec, |spec, arg| spec.arg(*arg));
        Ok(Self {
            address: format!("127.0.0.1:{}", ports[0]),
            secure_address: format!("127.0.0.1:{}", ports[1]),
            certificate,
            process: start(&spec).await?,
            spec,
        })
    }

    /// Kills the broker without a graceful shutdown.
    pub async fn kill(&self) -> Result<()> {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(Duration::from_secs(10)).await.map(drop)
    }

    /// Starts the killed broker again with its data.
    pub async fn restart(&mut self) -> Result<()> {
        self.process = start(&self.spec).await?;
        Ok(())
    }
}

async fn start(spec: &Spec) -> Result<Process> {
    let process = Process::start(spec)?;
    let started = |line: &str| line.contains("Kafka Server started").then_some(());
    process.line(Duration::from_mins(1), started).await?;
    Ok(process)
}

fn java(jars: &str, args: &[&str]) -> Result<String> {
    let output = Command::new("java").args(["-cp", jars]).args(args).output();
    let output = output.context("could not run java")?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "java {} failed: {stderr}",
        args.join(" ")
    );
    let stdout = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(stdout.lines().last().unwrap_or_default().to_owned())
}

fn properties([broker, secure, controller]: [u16; 3], data: &Path, keystore: &Path) -> String {
    let (data, keystore) = (data.display(), keystore.display());
    let (user, password) = USER;
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{broker},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},SASL_SSL://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{user}
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={data}/log
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"
    )
}
