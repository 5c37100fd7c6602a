//! The stack without Docker: its components run as processes with the configuration files of docker
//! compose, and start in the order of their dependencies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testbed::{
    System,
    broker::{Broker, USER},
    process::{Signal, Spec},
    sink::Sink,
    system::{Binaries, Dependencies},
};

use super::{
    ALERTMANAGER, BUGSINK, COLLECTOR, LOKI, PROMETHEUS, Part, Stack,
    alerting::{self, Notifications, start_alertmanager},
    ingress::Ingress,
};

/// The user and password of the monitoring role, the same as in docker compose. They protect
/// nothing.
const MONITOR: (&str, &str) = ("otel_monitor", "monitor");
pub(crate) const HMAC_KEY: &str = "0123456789abcdef0123456789abcdef";
/// The URL of Tempo.
pub const TEMPO: &str = "http://127.0.0.1:3200";
/// The address of Tempo's OTLP receiver. The collector uses the default port.
const TEMPO_OTLP: &str = "127.0.0.1:14317";

/// The DSN of the services. `stack/bugsink/project.py` creates its key.
const SENTRY_DSN: &str = "http://0123456789abcdef0123456789abcdef@127.0.0.1:8002/1";

/// The URL of Jaeger's health check.
pub const JAEGER_HEALTH: &str = "http://127.0.0.1:23133/status";
/// The URL of the collector's health check.
pub const COLLECTOR_HEALTH: &str = "http://127.0.0.1:13133/";

/// The programs and files of the stack.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The folder that contains `otelcol-bookapp`, `prometheus`, `alertmanager`, `loki` and `jaeger`.
    pub binaries: PathBuf,
    /// Tempo's program; if it is `None`, the testbed's OTLP sink replaces Tempo.
    pub tempo: Option<PathBuf>,
    /// The folder that contains Kafka's jars.
    pub kafka: PathBuf,
    /// The folder that contains Bugsink's programs.
    pub bugsink: PathBuf,
    /// Traefik's program.
    pub traefik: PathBuf,
    /// Locust's program, installed from `requests/requirements.txt`.
    pub locust: PathBuf,
    /// The factor by which the windows and intervals of alerting are shorter.
    pub speed: u64,
    /// The root of the checkout.
    pub root: PathBuf,
}

/// The processes and files of the native stack that are not part of [`Stack`] itself.
pub(crate) struct Processes {
    /// Both services.
    pub(crate) system: System,
    /// The broker.
    pub(crate) kafka: Broker,
    /// What Alertmanager sends.
    pub(crate) notifications: Notifications,
    _alertmanager: Part,
    _bugsink: Part,
    _jaeger: Part,
    _ingress: Ingress,
    _data: TempDir,
}

/// The addresses of the components that the collector connects to.
#[derive(Clone, Copy, Debug)]
pub struct Addresses<'a> {
    /// The OTLP/gRPC address of Tempo or the OTLP sink.
    pub traces: &'a str,
    /// The URL of the database.
    pub database_url: &'a str,
    /// The address of the Kafka broker.
    pub kafka: &'a str,
    /// The URL of bookapp, the API.
    pub bookapp: &'a str,
    /// The URL of backend, the worker.
    pub backend: &'a str,
}

impl Stack {
    /// Starts all components and waits until they are ready.
    pub async fn native(tools: &Tools) -> Result<Self> {
        let data = TempDir::with_prefix("bookapp-stack-")?;
        let path = |name: &str| data.path().join(name);
        for part in ["loki", "tempo"] {
            fs::create_dir(path(part))?;
        }
        let (kafka_data, bugsink_ready) = (path("kafka"), format!("{BUGSINK}/health/ready"));
        let (bugsink, kafka) = tokio::try_join!(
            Part::start(bugsink(tools, &path("bugsink")), bugsink_ready),
            Broker::start(&tools.root, &tools.kafka, &kafka_data),
        )?;
        let (dependencies, database_url) = Dependencies::start_tls(kafka.address.clone()).await?;
        let (trace_store, traces_url, traces_otlp) =
            start_trace_store(tools, &path("tempo")).await?;
        let notifications = Notifications::start()?;
        let alertmanager = start_alertmanager(tools, &path("alertmanager"), &notifications).await?;
        let prometheus = start_prometheus(tools, &path("prometheus")).await?;
        let loki = Part::start(loki(tools, &path("loki")), format!("{LOKI}/ready")).await?;
        let jaeger = Part::start(jaeger(tools), JAEGER_HEALTH.to_owned()).await?;
        // Start the services before the collector, because they migrate the database that it
        // queries.
        let logs = path("otelcol");
        fs::create_dir(&logs)?;
        let with_settings = |spec: Spec| {
            with_console_file(spec, &logs)
                .env("DATABASE_URL", &database_url)
                .env("KAFKA_BOOTSTRAP_SERVERS", &kafka.secure_address)
                .env("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
                .env("KAFKA_SASL_USERNAME", USER.0)
                .env("KAFKA_SASL_PASSWORD", USER.1)
                .env(
                    "KAFKA_SSL_CA_LOCATION",
                    kafka.certificate.display().to_string(),
                )
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
                .env("OTEL_METRIC_EXPORT_INTERVAL", "2000")
                .env("SENTRY_DSN", SENTRY_DSN)
                .env("SENTRY_WARNINGS", "false")
                .env("GRAFANA_URL", "http://127.0.0.1:3000")
                .env("ALERTMANAGER_URL", ALERTMANAGER)
                .env("ADMIN_TOKEN", "")
                .env("TRUSTED_HOPS", "1")
                .env("OTEL_PROPAGATORS", "tracecontext,baggage,jaeger")
                .env(
                    "OTEL_RESOURCE_ATTRIBUTES",
                    "service.namespace=bookapp,deployment.environment.name=native",
                )
        };
        let binaries = Binaries::with_tls().await?;
        let system = System::start_with(&binaries, dependencies, with_settings).await?;
        let ingress = Ingress::start(tools, data.path(), &system).await?;
        create_monitoring_role(tools, &system.database_url)?;
        let received = Sink::start().await?;
        let collector = collector(
            tools,
            &path("otelcol"),
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
            trace_store,
            prometheus,
            loki,
            collector: Part::start(
                tap(collector, "received", &received.endpoint()),
                COLLECTOR_HEALTH.to_owned(),
            )
            .await?,
            received: Some(received),
            locust: tools.locust.clone(),
            root: tools.root.clone(),
            processes: Some(Processes {
                system,
                kafka,
                notifications,
                _alertmanager: alertmanager,
                _bugsink: bugsink,
                _jaeger: jaeger,
                _ingress: ingress,
                _data: data,
            }),
        })
    }
}

/// Starts Tempo or the OTLP sink. Returns it with its URL and its OTLP address.
async fn start_trace_store(tools: &Tools, data: &Path) -> Result<(Part, String, String)> {
    let Some(program) = &tools.tempo else {
        let sink = Sink::start().await?;
        let url = sink.endpoint();
        let otlp = url.trim_start_matches("http://").to_owned();
        return Ok((Part::sink(sink), url, otlp));
    };
    let part = Part::start(tempo(tools, program, data), format!("{TEMPO}/ready")).await?;
    Ok((part, TEMPO.to_owned(), TEMPO_OTLP.to_owned()))
}

/// Returns the specification that starts Tempo. Tempo stops with SIGKILL, because it may hang on
/// SIGTERM.
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
    // The configuration of docker compose, with targets on this host.
    alerting::write_rules(tools, data)?;
    let targets = "- targets: [\"127.0.0.1:8888\", \"127.0.0.1:3100\", \"127.0.0.1:9093\", \"127.0.0.1:9090\"]\n";
    for (folder, targets) in [
        ("targets", targets),
        ("alertmanagers", "- targets: [\"127.0.0.1:9093\"]\n"),
    ] {
        fs::create_dir_all(data.join(folder))?;
        fs::write(data.join(folder).join("host.yaml"), targets)?;
    }
    Part::start(prometheus(tools, data), format!("{PROMETHEUS}/-/ready")).await
}

/// Returns the specification that starts Prometheus.
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
        .arg("--enable-feature=exemplar-storage,created-timestamp-zero-ingestion")
}

/// Returns the specification that starts Loki.
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

/// Returns the specification that starts Jaeger.
pub fn jaeger(tools: &Tools) -> Spec {
    let config = tools.root.join("stack/jaeger/jaeger.yaml");
    part(tools, "jaeger", "jaeger")
        .arg(format!("--config={}", config.display()))
        // Jaeger traces itself, to an endpoint that is the collector's.
        .env("OTEL_TRACES_SAMPLER", "always_off")
}

/// Returns the specification that starts Bugsink.
pub fn bugsink(tools: &Tools, data: &Path) -> Spec {
    let address = BUGSINK.trim_start_matches("http://");
    Spec::new("bugsink", tools.root.join("stack/bugsink/serve"))
        .arg(data)
        .arg(address)
        .arg(&tools.bugsink)
}

/// Returns the path of the console log file of a service, which the collector reads.
fn console_logs(data: &Path, service: &str) -> String {
    let file = data.join(format!("console-{service}.log"));
    file.display().to_string()
}

/// Writes the console lines of a service to a file as well, as Docker does, in logfmt.
fn with_console_file(spec: Spec, data: &Path) -> Spec {
    let tee = r#"exec "$0" "$@" 2> >(exec tee --append "$CONSOLE_LOG" >&2)"#;
    let shell = Spec::new(&spec.name, "bash").arg("-c").arg(tee);
    let shell = shell.arg(&spec.program);
    let spec = Spec {
        program: shell.program,
        args: [shell.args, spec.args].concat(),
        ..spec
    };
    let file = console_logs(data, &spec.name);
    spec.env("CONSOLE_LOG", file).env("LOG_FORMAT", "logfmt")
}

/// Returns the specification that starts the collector.
pub fn collector(tools: &Tools, data: &Path, addresses: &Addresses<'_>) -> Result<Spec> {
    let database = addresses
        .database_url
        .rsplit('@')
        .next()
        .unwrap_or_default();
    let (address, name) = database
        .split_once('/')
        .context("the database URL has no database name")?;
    let (host, port) = address
        .split_once(':')
        .context("the database URL has no port")?;
    let config = |file: &str| {
        format!(
            "--config={}",
            tools.root.join("otel-collector").join(file).display()
        )
    };
    Ok(part(tools, "otel-collector", "otelcol-bookapp")
        .arg(config("base.yaml"))
        .arg(config("core.yaml"))
        .arg(config("infrastructure.yaml"))
        .arg(config("console.yaml"))
        .env("CONSOLE_LOGS", console_logs(data, "*"))
        .env(
            "OTELCOL_QUEUE_DIR",
            data.join("queue").display().to_string(),
        )
        .env("REDACTION_HMAC_KEY", HMAC_KEY)
        .env("TAIL_SAMPLING_DECISION_WAIT", "3s")
        .env("OTELCOL_FLUSH_INTERVAL", "3s")
        .env("INFRA_INTERVAL", "3s")
        .env("TEMPO_OTLP_ENDPOINT", addresses.traces)
        .env("TRACES_EXPORTERS", "[otlp_grpc/tempo, otlp_grpc/jaeger]")
        .env("POSTGRES_ENDPOINT", address)
        .env("POSTGRES_HOST", host)
        .env("POSTGRES_PORT", port)
        .env("POSTGRES_DB", name)
        .env("PG_MONITOR_USER", MONITOR.0)
        .env("PG_MONITOR_PASSWORD", MONITOR.1)
        .env("KAFKA_BROKER", addresses.kafka)
        .env("BOOKAPP_URL", addresses.bookapp)
        .env("BACKEND_URL", addresses.backend))
}

/// Adds pipelines that export everything that the collector receives to `endpoint`, too, in the same order. The
/// configuration files stay unchanged.
pub(crate) fn tap(collector: Spec, name: &str, endpoint: &str) -> Spec {
    let exporter = |setting: &str| format!("--config=yaml:exporters::otlp_http/{name}::{setting}");
    let collector = collector
        .arg(exporter(&format!("endpoint: {endpoint}")))
        .arg(exporter("sending_queue::num_consumers: 1"));
    let pipelines = ["traces", "metrics", "logs"].into_iter();
    let parts = pipelines.flat_map(|signal| {
        let part = |key, part: &str| {
            format!("--config=yaml:service::pipelines::{signal}/{name}::{key}: [{part}]")
        };
        [
            part("receivers", "otlp"),
            part("exporters", &format!("otlp_http/{name}")),
        ]
    });
    parts.fold(collector, Spec::arg)
}

/// Runs the script that creates the collector's database role, as docker compose does.
fn create_monitoring_role(tools: &Tools, database_url: &str) -> Result<()> {
    let status = Command::new(tools.root.join("stack/postgres/monitor.sh"))
        .args(["--quiet", "--no-psqlrc", database_url])
        .env("PG_MONITOR_USER", MONITOR.0)
        .env("PG_MONITOR_PASSWORD", MONITOR.1)
        .status()
        .context("could not run stack/postgres/monitor.sh")?;
    ensure!(status.success(), "could not create the monitoring role");
    Ok(())
}

pub(super) fn part(tools: &Tools, name: &str, binary: &str) -> Spec {
    Spec {
        stop_signal: Signal::SIGTERM,
        ..Spec::new(name, tools.binaries.join(binary))
    }
}
