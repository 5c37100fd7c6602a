//! Kafka as a process: one broker in KRaft mode, from the jars that `stack/kafka/pom.xml` declares.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use testbed::{
    port,
    process::{Process, Signal, Spec},
};

pub(crate) struct Kafka {
    pub(crate) address: String,
    process: Process,
    spec: Spec,
}

impl Kafka {
    /// Starts a broker from the jars in `jars`, with its data in `data`.
    pub(crate) async fn start(root: &Path, jars: &Path, data: &Path) -> Result<Self> {
        fs::create_dir_all(data)?;
        let (broker, controller) = (port::free()?, port::free()?);
        let settings = data.join("server.properties");
        fs::write(&settings, properties(broker, controller, data))?;
        let jars = jars.join("*").display().to_string();
        let id = java(&jars, &["kafka.tools.StorageTool", "random-uuid"])?;
        let settings = settings.display().to_string();
        let format = [
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            &id,
            "-c",
            &settings,
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
            address: format!("127.0.0.1:{broker}"),
            process: start(&spec).await?,
            spec,
        })
    }

    /// Kills the broker without a graceful shutdown.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(Duration::from_secs(10)).await.map(drop)
    }

    /// Starts the killed broker again with its data.
    pub(crate) async fn restart(&mut self) -> Result<()> {
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

fn properties(broker: u16, controller: u16, data: &Path) -> String {
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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
