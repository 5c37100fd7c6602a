//! Both services as processes, with a database, a Kafka cluster and an OTLP sink for each test.
//!
//! This module does not import the services. It builds their binaries with cargo, as a user does,
//! and uses them over HTTP.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use book_events::{BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{
    eventually,
    kafka::Kafka,
    port,
    postgres::Postgres,
    process::{Process, Spec},
    sink::Sink,
};

const START: Duration = Duration::from_mins(1);

/// What follows `select count(*) from` to count the books with wrong details: missing ones, those of another
/// title or author, and those of a book that does not exist. The seed books are left out, because they have
/// no events.
pub const WRONG_DETAILS: &str = "(select * from books where id > 92) b
    full join (select * from book_details where book_id > 92) d on d.book_id = b.id
    where d.checksum is distinct from
        encode(sha256(convert_to(title || chr(10) || author, 'UTF8')), 'hex')";

/// The running system. It stops on drop.
pub struct System {
    /// Receives the telemetry of both services.
    pub sink: Sink,
    /// The API service.
    pub bookapp: Service,
    /// The worker service.
    pub backend: Service,
    /// The URL of the database.
    pub database_url: String,
    /// The value for `bootstrap.servers`.
    pub kafka_servers: String,
    kafka: Option<Kafka>,
    /// The database server; `None` if other tests share the server.
    pub postgres: Option<Postgres>,
}

/// A running service process.
pub struct Service {
    /// The URL of its listener, without a trailing slash.
    pub url: String,
    /// The URL of its admin listener; empty if it has none.
    pub admin_url: String,
    /// The process.
    pub process: Process,
    spec: Spec,
}

/// The paths of the built binaries of both services.
pub struct Binaries {
    bookapp: PathBuf,
    backend: PathBuf,
}

/// The running dependencies of the services: PostgreSQL and Kafka.
pub struct Dependencies {
    database_url: String,
    kafka_servers: String,
    kafka: Option<Kafka>,
    postgres: Option<Postgres>,
}

impl Binaries {
    /// Builds the binaries. Cargo prints its progress on stderr.
    pub async fn build() -> Result<Self> {
        Self::with_features(&[]).await
    }

    /// Builds the binaries with TLS for PostgreSQL, and with TLS and SASL for Kafka, as in the images.
    pub async fn with_tls() -> Result<Self> {
        Self::with_features(&[
            "bookapp/kafka-tls",
            "backend/kafka-tls",
            "bookapp/postgres-tls",
            "backend/postgres-tls",
        ])
        .await
    }

    async fn with_features(features: &'static [&'static str]) -> Result<Self> {
        spawn_blocking(|| {
            // The demo depends on both. With its features, `cargo run -p demo` compiles nothing twice.
            let packages = ["bookapp", "backend", "demo"];
            let mut executables = build(&packages, features, "dev")?;
            let mut take = |name| {
                executables
                    .remove(name)
                    .with_context(|| format!("cargo built no executable {name}"))
            };
            Ok(Self {
                bookapp: take("bookapp")?,
                backend: take("backend")?,
            })
        })
        .await?
    }

    /// Returns the binaries in `folder`, which are already built.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            bookapp: folder.join("bookapp"),
            backend: folder.join("backend"),
        }
    }

    /// Returns the path of bookapp's binary.
    pub fn bookapp(&self) -> &Path {
        &self.bookapp
    }

    /// Returns the path of backend's binary.
    pub fn backend(&self) -> &Path {
        &self.backend
    }
}

impl Dependencies {
    /// Returns the URL of the database.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The mock cluster, unless a real broker was given.
    pub fn mock_kafka(&self) -> Option<&Kafka> {
        self.kafka.as_ref()
    }

    /// Starts a PostgreSQL server and, if `kafka_servers` is `None`, a mock Kafka cluster.
    pub async fn start(kafka_servers: Option<String>) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let database_url = postgres.database().await?;
        Self::with_database(database_url, Some(postgres), kafka_servers)
    }

    /// Starts a PostgreSQL server with TLS, for a Kafka that runs already. Also returns the URL of the database with
    /// TLS; the other one has none.
    pub async fn start_tls(kafka_servers: String) -> Result<(Self, String)> {
        let postgres = Postgres::start_tls().await?;
        let database_url = postgres.database().await?;
        let with_tls = database_url.clone() + &postgres.tls_parameters();
        let started = Self::with_database(database_url, Some(postgres), Some(kafka_servers))?;
        Ok((started, with_tls))
    }

    /// Creates a database on the shared PostgreSQL server and starts a mock Kafka cluster.
    pub async fn for_test() -> Result<Self> {
        Self::with_postgres(Postgres::shared().await?).await
    }

    /// Creates a database on this server and starts a mock Kafka cluster.
    pub async fn with_postgres(postgres: &Postgres) -> Result<Self> {
        Self::with_database(postgres.database().await?, None, None)
    }

    /// Creates a database on this server, for a Kafka that runs already.
    pub async fn with_kafka(postgres: &Postgres, servers: String) -> Result<Self> {
        Self::with_database(postgres.database().await?, None, Some(servers))
    }

    /// Does the same as [`for_test`](Self::for_test), but with an empty database.
    pub async fn for_test_with_empty_database() -> Result<Self> {
        Self::with_database(
            Postgres::shared().await?.empty_database().await?,
            None,
            None,
        )
    }

    fn with_database(
        database_url: String,
        postgres: Option<Postgres>,
        kafka_servers: Option<String>,
    ) -> Result<Self> {
        let kafka = match kafka_servers {
            Some(_) => None,
            None => Some(Kafka::start(&[BOOK_EVENTS, BOOK_EVENTS_DEAD_LETTER])?),
        };
        let kafka_servers = kafka_servers
            .or_else(|| kafka.as_ref().map(Kafka::bootstrap_servers))
            .context("no Kafka broker")?;
        Ok(Self {
            database_url,
            kafka_servers,
            kafka,
            postgres,
        })
    }

    /// Returns the specification that starts a service, with all settings except the URL of the
    /// other service.
    pub fn service_spec(&self, name: &str, program: &Path, sink: &Sink) -> Spec {
        // A fixed port that stays free while the service is down, so that it can restart on it.
        let listen_addr = format!("127.0.0.1:{}", port::free().unwrap_or(0));
        Spec::new(name, program)
            .env("LISTEN_ADDR", listen_addr)
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("DATABASE_URL", &self.database_url)
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.kafka_servers)
            // The mock cluster has no Admin API, and its topics exist already.
            .env("KAFKA_CREATE_TOPICS", self.kafka.is_none().to_string())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint())
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
            .env("OTEL_METRICS_EXPORTER", "otlp,prometheus")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "500")
            .env("FAULT_INJECTION", "true")
            .env("DATABASE_TRACE_ID_IN_ACTIVITY", "true")
            .env("SHUTDOWN_DRAIN_TIME", "0s")
            .env("LOG_FORMAT", "json")
            .env("RUST_LOG", "info")
    }
}

impl System {
    /// Starts both services and waits until they are ready.
    pub async fn start(binaries: &Binaries, dependencies: Dependencies) -> Result<Self> {
        Self::start_with(binaries, dependencies, |spec| spec).await
    }

    /// Starts both services with settings that `adjust` changes, and waits until they are ready.
    pub async fn start_with(
        binaries: &Binaries,
        dependencies: Dependencies,
        adjust: impl Fn(Spec) -> Spec,
    ) -> Result<Self> {
        let sink = Sink::start().await?;
        let backend = adjust(dependencies.service_spec("backend", &binaries.backend, &sink));
        let backend = Service::start(&backend).await?;
        let bookapp = dependencies.service_spec("bookapp", &binaries.bookapp, &sink);
        let bookapp = adjust(bookapp.env("BACKEND_URL", &backend.url));
        let bookapp = Service::start(&bookapp).await?;
        bookapp.wait_until_ready().await?;
        backend.wait_until_ready().await?;
        let Dependencies {
            database_url,
            kafka_servers,
            kafka,
            postgres,
        } = dependencies;
        Ok(Self {
            sink,
            bookapp,
            backend,
            database_url,
            kafka_servers,
            kafka,
            postgres,
        })
    }

    /// The mock cluster, unless a real broker was given.
    pub fn mock_kafka(&self) -> Option<&Kafka> {
        self.kafka.as_ref()
    }
}

impl Service {
    /// Starts a service and waits until it logs the addresses of both listeners.
    pub async fn start(spec: &Spec) -> Result<Self> {
        let service = Self::start_without_admin(spec).await?;
        let admin_url = logged_url(&service.process, "admin on ").await?;
        Ok(Self {
            admin_url,
            ..service
        })
    }

    /// Starts a program without an admin listener and waits until it logs its address.
    pub async fn start_without_admin(spec: &Spec) -> Result<Self> {
        let process = Process::start(spec)?;
        let url = logged_url(&process, "listening on ").await?;
        let address = url.trim_start_matches("http://").to_owned();
        let spec = spec.clone().env("LISTEN_ADDR", address);
        Ok(Self {
            url,
            admin_url: String::new(),
            process,
            spec,
        })
    }

    /// Starts the stopped service again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        *self = Self::start(&self.spec).await?;
        Ok(())
    }

    /// Starts another instance of the service on another port.
    pub async fn start_another(&self) -> Result<Self> {
        Self::start(&self.spec.clone().env("LISTEN_ADDR", "127.0.0.1:0")).await
    }

    /// Waits until the service is ready.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let url = format!("{}/health/ready", self.url);
        let client = http()?;
        let ready = || async {
            let response = client.get(&url).send().await.ok()?;
            response.status().is_success().then_some(())
        };
        eventually(START, &url, ready)
            .await
            .with_context(|| format!("its output:\n{}", self.process.lines().join("\n")))
    }
}

/// Waits for the address that a process logs after `prefix`, in a text line or in the message of a
/// JSON line. Returns the address as a URL.
async fn logged_url(process: &Process, prefix: &str) -> Result<String> {
    let address = |line: &str| {
        let json = serde_json::from_str::<Value>(line).ok();
        let message = json
            .as_ref()
            .map_or(line, |json| json["message"].as_str().unwrap_or(line));
        let logfmt = message.strip_prefix("msg=\"");
        let message = logfmt.map_or(message, |message| message.trim_end_matches('"'));
        message.strip_prefix(prefix).map(str::to_owned)
    };
    Ok(format!("http://{}", process.line(START, address).await?))
}

/// Creates an HTTP client that propagates no trace context.
pub fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()?)
}

/// Returns the command that runs cargo.
///
/// Cargo sets variables for the program that it runs, and some build scripts run again if these change. They
/// are removed, or each test of the system would compile the services again.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names {
        if name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the binaries of these packages with these features. Returns their paths by name.
///
/// Cargo chooses the features of the dependencies for all these packages together.
pub fn build(
    packages: &[&str],
    features: &[&str],
    profile: &str,
) -> Result<HashMap<String, PathBuf>> {
    let mut command = cargo();
    command.args(["build", "--message-format=json-render-diagnostics"]);
    command.args(["--profile", profile]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    command.args(features.iter().flat_map(|feature| ["--features", feature]));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let output = command.output().context("could not run cargo")?;
    if !output.status.success() {
        bail!("cargo build failed");
    }
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let executables: HashMap<String, PathBuf> = messages
        .filter_map(|message| {
            let message = message.ok()?;
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect();
    ensure!(!executables.is_empty(), "cargo built no executable");
    Ok(executables)
}
