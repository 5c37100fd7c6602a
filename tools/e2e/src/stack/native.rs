//! The stack without Docker: its parts as processes, started in the order in which they need each
//! other, with the very configuration files compose uses.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testbed::{
    System,
    process::{Signal, Spec},
    sink::Sink,
    system::{Binaries, Parts},
};

use super::{BUGSINK, COLLECTOR, LOKI, PROMETHEUS, Part, Stack, kafka::Kafka};

/// Values that compose sets too; they protect nothing here.
const MONITOR: (&str, &str) = ("otel_monitor", "monitor");
const HMAC_KEY: &str = "0123456789abcdef0123456789abcdef";
/// Where Tempo answers.
pub const TEMPO: &str = "http://127.0.0.1:3200";
/// Where it takes OTLP, away from the collector.
const TEMPO_OTLP: &str = "127.0.0.1:14317";

/// Where the services report errors; the key is made by `stack/bugsink/project.py`.
const SENTRY_DSN: &str = "http://0123456789abcdef0123456789abcdef@127.0.0.1:8002/1";

/// Where the collector says that it is well.
pub const COLLECTOR_HEALTH: &str = "http://127.0.0.1:13133/";

/// What the stack is made of.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folder of `otelcol-bookapp`, `prometheus` and `loki`.
    pub binaries: PathBuf,
    /// Tempo, where it can be had; else the testbed's OTLP sink takes its place.
    pub tempo: Option<PathBuf>,
    /// The folder of Kafka's jars.
    pub kafka: PathBuf,
    /// The folder of Bugsink's programs.
    pub bugsink: PathBuf,
    /// Locust, with what `requests/requirements.txt` names.
    pub locust: PathBuf,
    /// The checkout.
    pub root: PathBuf,
}

/// What lives as long as the stack and is taken away by no drill.
pub(super) struct Processes {
    _system: System,
    _kafka: Kafka,
    _bugsink: Part,
    _data: TempDir,
}

/// Where the collector finds the parts.
#[derive(Clone, Copy, Debug)]
pub struct Addresses<'a> {
    /// Where Tempo, or the sink, takes OTLP over gRPC.
    pub traces: &'a str,
    /// The database's URL.
    pub database_url: &'a str,
    /// The broker.
    pub kafka: &'a str,
    /// The API's URL.
    pub bookapp: &'a str,
    /// The worker's URL.
    pub backend: &'a str,
}

impl Stack {
    /// Starts everything and waits until it is ready.
    pub async fn native(tools: &Tools) -> Result<Self> {
        let data = TempDir::with_prefix("bookapp-stack-")?;
        let at = |name: &str| data.path().join(name);
        for part in ["loki", "tempo"] {
            fs::create_dir(at(part))?;
        }
        let (kafka_data, bugsink_ready) = (at("kafka"), format!("{BUGSINK}/health/ready"));
        let (bugsink, kafka) = tokio::try_join!(
            Part::start(bugsink(tools, &at("bugsink")), bugsink_ready),
            Kafka::start(&tools.root, &tools.kafka, &kafka_data),
        )?;
        let parts = Parts::start(Some(kafka.address.clone())).await?;
        let (traces, traces_url, traces_otlp) = start_traces(tools, &at("tempo")).await?;
        let prometheus = start_prometheus(tools, &at("prometheus")).await?;
        let loki = Part::start(loki(tools, &at("loki")), format!("{LOKI}/ready")).await?;
        // The services migrate the database before the collector looks at it.
        let told = |spec: Spec| {
            spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
                .env("OTEL_METRIC_EXPORT_INTERVAL", "2000")
                .env("SENTRY_DSN", SENTRY_DSN)
                .env("SENTRY_WARNINGS", "false")
                .env("GRAFANA_URL", "http://127.0.0.1:3000")
                .env("ADMIN_TOKEN", "")
                .env(
                    "OTEL_RESOURCE_ATTRIBUTES",
                    "service.namespace=bookapp,deployment.environment.name=native",
                )
        };
        let system = System::start_with(&Binaries::build().await?, parts, told).await?;
        make_monitor(tools, &system.database_url)?;
        let received = Sink::start().await?;
        let collector = collector(
            tools,
            &at("otelcol"),
            &Addresses {
                traces: &traces_otlp,
                database_url: &system.database_url,
                kafka: &kafka.address,
                bookapp: &system.bookapp.url,
                backend: &system.backend.url,
            },
        )?;
        Ok(Self {
            bookapp: system.bookapp.url.clone(),
            backend: system.backend.url.clone(),
            database_url: system.database_url.clone(),
            traces_url,
            is_tempo: tools.tempo.is_some(),
            traces,
            prometheus,
            loki,
            collector: Part::start(tap(collector, &received), COLLECTOR_HEALTH.to_owned()).await?,
            received: Some(received),
            locust: tools.locust.clone(),
            root: tools.root.clone(),
            _processes: Some(Processes {
                _system: system,
                _kafka: kafka,
                _bugsink: bugsink,
                _data: data,
            }),
        })
    }
}

/// Tempo, or the sink in its place; where it is asked, and where it takes OTLP.
async fn start_traces(tools: &Tools, data: &Path) -> Result<(Part, String, String)> {
    let Some(program) = &tools.tempo else {
        let sink = Sink::start().await?;
        let url = sink.endpoint();
        let otlp = url.trim_start_matches("http://").to_owned();
        return Ok((Part::sink(sink), url, otlp));
    };
    let part = Part::start(tempo(tools, program, data), format!("{TEMPO}/ready")).await?;
    Ok((part, TEMPO.to_owned(), TEMPO_OTLP.to_owned()))
}

/// How Tempo is started. It is killed in the end: its SIGTERM may hang.
pub fn tempo(tools: &Tools, program: &Path, data: &Path) -> Spec {
    let config = tools.root.join("stack/tempo/tempo.yaml");
    Spec::new("tempo", program)
        .arg("-target=all")
        .arg(format!("-config.file={}", config.display()))
        .arg("-config.expand-env=true")
        .env("TEMPO_BIND", "127.0.0.1")
        .env("TEMPO_OTLP", TEMPO_OTLP)
        .env("TEMPO_GRPC_PORT", "9096")
        .env("TEMPO_PATH", data.display().to_string())
}

async fn start_prometheus(tools: &Tools, data: &Path) -> Result<Part> {
    // The configuration as it is; only the addresses of what is scraped are this host's.
    fs::create_dir_all(data.join("targets"))?;
    fs::copy(
        tools.root.join("stack/prometheus/prometheus.yaml"),
        data.join("prometheus.yaml"),
    )?;
    let targets = "- targets: [\"127.0.0.1:8888\", \"127.0.0.1:3100\", \"127.0.0.1:9090\"]\n";
    fs::write(data.join("targets/host.yaml"), targets)?;
    symlink(
        tools.root.join("stack/prometheus/rules"),
        data.join("rules"),
    )?;
    Part::start(prometheus(tools, data), format!("{PROMETHEUS}/-/ready")).await
}

/// How Prometheus is started.
pub fn prometheus(tools: &Tools, data: &Path) -> Spec {
    let config = data.join("prometheus.yaml");
    part(tools, "prometheus", "prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            data.join("tsdb").display()
        ))
        .arg("--web.listen-address=127.0.0.1:9090")
        .arg("--web.enable-otlp-receiver")
        .arg("--enable-feature=exemplar-storage")
}

/// How Loki is started.
pub fn loki(tools: &Tools, data: &Path) -> Spec {
    let config = tools.root.join("stack/loki/loki.yaml");
    part(tools, "loki", "loki")
        .arg(format!("-config.file={}", config.display()))
        .arg("-config.expand-env=true")
        .arg("-target=all")
        .arg("-server.http-listen-address=127.0.0.1")
        .arg("-server.grpc-listen-address=127.0.0.1")
        .env("LOKI_PATH", data.display().to_string())
}

/// How Bugsink is started.
pub fn bugsink(tools: &Tools, data: &Path) -> Spec {
    let address = BUGSINK.trim_start_matches("http://");
    Spec::new("bugsink", tools.root.join("stack/bugsink/serve"))
        .arg(data)
        .arg(address)
        .arg(&tools.bugsink)
}

/// How the collector is started.
pub fn collector(tools: &Tools, data: &Path, at: &Addresses<'_>) -> Result<Spec> {
    let database = at.database_url.rsplit('@').next().unwrap_or_default();
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
    Ok(part(tools, "otel-collector", "otelcol-bookapp")
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
        .env("TEMPO_OTLP_ENDPOINT", at.traces)
        .env("POSTGRES_ENDPOINT", address)
        .env("POSTGRES_HOST", host)
        .env("POSTGRES_PORT", port)
        .env("POSTGRES_DB", name)
        .env("PG_MONITOR_USER", MONITOR.0)
        .env("PG_MONITOR_PASSWORD", MONITOR.1)
        .env("KAFKA_BROKER", at.kafka)
        .env("BOOKAPP_URL", at.bookapp)
        .env("BACKEND_URL", at.backend))
}

/// Pipelines of their own that show `sink` what the collector receives; its files are as they are.
fn tap(collector: Spec, sink: &Sink) -> Spec {
    let endpoint = sink.endpoint();
    let exporter = format!("--config=yaml:exporters::otlp_http/tap::endpoint: {endpoint}");
    let pipelines = ["traces", "metrics", "logs"]
        .into_iter()
        .flat_map(|signal| {
            let part = |key, part| {
                format!("--config=yaml:service::pipelines::{signal}/tap::{key}: [{part}]")
            };
            [
                part("receivers", "otlp"),
                part("exporters", "otlp_http/tap"),
            ]
        });
    pipelines.fold(collector.arg(exporter), Spec::arg)
}

/// Runs the script that makes the collector's role, as compose does.
fn make_monitor(tools: &Tools, database_url: &str) -> Result<()> {
    let status = Command::new(tools.root.join("stack/postgres/monitor.sh"))
        .args(["--quiet", "--no-psqlrc", database_url])
        .env("PG_MONITOR_USER", MONITOR.0)
        .env("PG_MONITOR_PASSWORD", MONITOR.1)
        .status()
        .context("could not run stack/postgres/monitor.sh")?;
    ensure!(status.success(), "the monitor's role could not be made");
    Ok(())
}

fn part(tools: &Tools, name: &str, binary: &str) -> Spec {
    Spec {
        end: Signal::SIGTERM,
        ..Spec::new(name, tools.binaries.join(binary))
    }
}
