//! The parts, started in the order in which they need each other, and ended with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use demo::{
    System,
    system::{Binaries, Parts, http},
};
use tempfile::TempDir;
use testbed::{
    eventually,
    process::{Process, Signal, Spec},
    sink::Sink,
};

use crate::kafka::Kafka;

const START: Duration = Duration::from_mins(1);
/// Values that compose sets too; they protect nothing here.
const MONITOR: (&str, &str) = ("otel_monitor", "monitor");
const HMAC_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Where Prometheus answers.
pub const PROMETHEUS: &str = "http://127.0.0.1:9090";
/// Where Loki answers.
pub const LOKI: &str = "http://127.0.0.1:3100";

/// Where the collector says that it is well.
pub const COLLECTOR: &str = "http://127.0.0.1:13133/";

/// The running stack; gone on drop.
pub struct Stack {
    /// The services, telling the collector; their own sink stays empty.
    pub system: System,
    /// What stands where Tempo would: it takes the collector's traces and answers for them by id.
    pub traces: Sink,
    /// Prometheus.
    pub prometheus: Part,
    /// Loki.
    pub loki: Part,
    /// The collector.
    pub collector: Part,
    /// How to run Locust.
    pub locust: PathBuf,
    root: PathBuf,
    _kafka: Kafka,
    _data: TempDir,
}

/// What the stack is made of.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folder of `otelcol-bookapp`, `prometheus` and `loki`.
    pub binaries: PathBuf,
    /// The folder of Kafka's jars.
    pub kafka: PathBuf,
    /// Locust, with what `requests/requirements.txt` names.
    pub locust: PathBuf,
    /// The checkout.
    pub root: PathBuf,
}

impl Stack {
    /// Starts everything and waits until it is ready.
    pub async fn start(tools: &Tools) -> Result<Self> {
        let data = TempDir::with_prefix("bookapp-stack-")?;
        let at = |name: &str| data.path().join(name);
        let kafka = Kafka::start(&tools.root, &tools.kafka, &at("kafka")).await?;
        let parts = Parts::start(Some(kafka.address.clone())).await?;
        let traces = Sink::start().await?;
        let prometheus = start_prometheus(tools, &at("prometheus")).await?;
        let loki = start_loki(tools, &at("loki")).await?;
        // The services migrate the database before the collector looks at it.
        let told = |spec: Spec| {
            spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
                .env("OTEL_METRIC_EXPORT_INTERVAL", "2000")
        };
        let system = System::start_with(&Binaries::build().await?, parts, told).await?;
        make_monitor(tools, &system.database_url)?;
        let collector = start_collector(tools, &at("otelcol"), &system, &traces, &kafka).await?;
        let (locust, root) = (tools.locust.clone(), tools.root.clone());
        Ok(Self {
            system,
            traces,
            prometheus,
            loki,
            collector,
            locust,
            root,
            _kafka: kafka,
            _data: data,
        })
    }

    /// The canonical traffic for so many seconds; fails when Locust does.
    pub async fn load(&self, seconds: u64) -> Result<()> {
        let locust = Spec::new("locust", &self.locust)
            .arg("--locustfile")
            .arg(self.root.join("requests/locustfile.py"))
            .arg("--headless")
            .arg("--only-summary")
            .arg("--users=10")
            .arg("--spawn-rate=10")
            .arg(format!("--run-time={seconds}s"))
            .arg(format!("--host={}", self.system.bookapp.url))
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let locust = Process::start(&locust)?;
        let status = locust.exited(Duration::from_secs(seconds) + START).await?;
        ensure!(
            status.success(),
            "locust failed:\n{}",
            locust.lines().join("\n")
        );
        Ok(())
    }
}

/// A part that can be killed and started again with its data.
#[derive(Debug)]
pub struct Part {
    process: Process,
    spec: Spec,
    ready: String,
}

impl Part {
    async fn start(spec: Spec, ready: String) -> Result<Self> {
        let process = Process::start(&spec)?;
        let client = http()?;
        let answers = || async {
            client
                .get(&ready)
                .send()
                .await
                .ok()?
                .error_for_status()
                .ok()
                .map(drop)
        };
        eventually(START, &ready, answers)
            .await
            .with_context(|| format!("it said:\n{}", process.lines().join("\n")))?;
        Ok(Self {
            process,
            spec,
            ready,
        })
    }

    /// Kills it, with nothing said.
    pub async fn kill(&self) -> Result<()> {
        self.process.signal(Signal::SIGKILL);
        self.process.exited(Duration::from_secs(10)).await.map(drop)
    }

    /// Starts it again and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        *self = Self::start(self.spec.clone(), self.ready.clone()).await?;
        Ok(())
    }
}

async fn start_prometheus(tools: &Tools, data: &Path) -> Result<Part> {
    // The configuration as it is; only the addresses of what is scraped are this host's.
    fs::create_dir_all(data.join("targets"))?;
    fs::copy(
        tools.root.join("prometheus/prometheus.yaml"),
        data.join("prometheus.yaml"),
    )?;
    let targets = "- targets: [\"127.0.0.1:8888\", \"127.0.0.1:3100\", \"127.0.0.1:9090\"]\n";
    fs::write(data.join("targets/host.yaml"), targets)?;
    let spec = part(tools, "prometheus", "prometheus")
        .arg(format!(
            "--config.file={}",
            data.join("prometheus.yaml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            data.join("tsdb").display()
        ))
        .arg("--web.listen-address=127.0.0.1:9090")
        .arg("--web.enable-otlp-receiver")
        .arg("--enable-feature=exemplar-storage");
    Part::start(spec, format!("{PROMETHEUS}/-/ready")).await
}

async fn start_loki(tools: &Tools, data: &Path) -> Result<Part> {
    fs::create_dir_all(data)?;
    let config = tools.root.join("loki/loki.yaml");
    let spec = part(tools, "loki", "loki")
        .arg(format!("-config.file={}", config.display()))
        .arg("-config.expand-env=true")
        .arg("-target=all")
        .arg("-server.http-listen-address=127.0.0.1")
        .arg("-server.grpc-listen-address=127.0.0.1")
        .env("LOKI_PATH", data.display().to_string());
    Part::start(spec, format!("{LOKI}/ready")).await
}

async fn start_collector(
    tools: &Tools,
    data: &Path,
    system: &System,
    traces: &Sink,
    kafka: &Kafka,
) -> Result<Part> {
    let database = system.database_url.rsplit('@').next().unwrap_or_default();
    let (address, name) = database
        .split_once('/')
        .context("the database has a name")?;
    let (host, port) = address.split_once(':').context("the database has a port")?;
    let config = |file: &str| {
        format!(
            "--config={}",
            tools.root.join("otel-collector").join(file).display()
        )
    };
    let spec = part(tools, "otel-collector", "otelcol-bookapp")
        .arg(config("core.yaml"))
        .arg(config("infrastructure.yaml"))
        .env(
            "OTELCOL_QUEUE_DIR",
            data.join("queue").display().to_string(),
        )
        .env("REDACTION_HMAC_KEY", HMAC_KEY)
        .env("TAIL_SAMPLING_DECISION_WAIT", "3s")
        .env("OTELCOL_FLUSH_INTERVAL", "3s")
        .env("INFRA_INTERVAL", "3s")
        .env(
            "TEMPO_OTLP_ENDPOINT",
            traces.endpoint().trim_start_matches("http://"),
        )
        .env("POSTGRES_ENDPOINT", address)
        .env("POSTGRES_HOST", host)
        .env("POSTGRES_PORT", port)
        .env("POSTGRES_DB", name)
        .env("PG_MONITOR_USER", MONITOR.0)
        .env("PG_MONITOR_PASSWORD", MONITOR.1)
        .env("KAFKA_BROKER", &kafka.address)
        .env("BOOKAPP_URL", &system.bookapp.url)
        .env("BACKEND_URL", &system.backend.url);
    Part::start(spec, COLLECTOR.to_owned()).await
}

/// Runs the script that makes the collector's role, as compose does.
fn make_monitor(tools: &Tools, database_url: &str) -> Result<()> {
    let status = Command::new(tools.root.join("postgres/monitor.sh"))
        .args(["--quiet", "--no-psqlrc", database_url])
        .env("PG_MONITOR_USER", MONITOR.0)
        .env("PG_MONITOR_PASSWORD", MONITOR.1)
        .status()
        .context("could not run postgres/monitor.sh")?;
    ensure!(status.success(), "the monitor's role could not be made");
    Ok(())
}

fn part(tools: &Tools, name: &str, binary: &str) -> Spec {
    Spec {
        end: Signal::SIGTERM,
        ..Spec::new(name, tools.binaries.join(binary))
    }
}
