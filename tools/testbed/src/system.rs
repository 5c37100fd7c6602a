//! Both services as processes, with PostgreSQL, Kafka and an OTLP sink of their own.
//!
//! It imports no service: it builds their binaries with cargo, as a user would, and talks to them
//! over HTTP.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use book_events::{BOOK_ADDED, BOOK_ADDED_DEAD_LETTER, PARTITIONS};
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

/// The running system; gone on drop.
pub struct System {
    /// Everything the services tell.
    pub sink: Sink,
    /// The API.
    pub bookapp: Service,
    /// The worker.
    pub backend: Service,
    /// Where the database is.
    pub database_url: String,
    /// Where Kafka is.
    pub kafka_servers: String,
    kafka: Option<Kafka>,
    /// The server of the database, unless it is shared with other tests.
    pub postgres: Option<Postgres>,
}

/// A running service.
pub struct Service {
    /// Where it listens, as a URL without a slash at its end.
    pub url: String,
    /// Where its admin listener answers.
    pub admin_url: String,
    /// Its process.
    pub process: Process,
    spec: Spec,
}

/// The binaries of both services, built.
pub struct Binaries {
    bookapp: PathBuf,
    backend: PathBuf,
}

/// The parts the services need, running.
pub struct Parts {
    database_url: String,
    kafka_servers: String,
    kafka: Option<Kafka>,
    postgres: Option<Postgres>,
}

impl Binaries {
    /// Builds them; cargo shows its progress on stderr.
    pub async fn build() -> Result<Self> {
        spawn_blocking(|| {
            let mut executables = build(&["bookapp", "backend"], "dev")?;
            let mut take = |name| {
                executables
                    .remove(name)
                    .with_context(|| format!("no {name}"))
            };
            Ok(Self {
                bookapp: take("bookapp")?,
                backend: take("backend")?,
            })
        })
        .await?
    }

    /// bookapp's binary.
    pub fn bookapp(&self) -> &Path {
        &self.bookapp
    }

    /// backend's binary.
    pub fn backend(&self) -> &Path {
        &self.backend
    }
}

impl Parts {
    /// Where the database is.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The mock cluster, unless a real broker was given.
    pub fn mock_kafka(&self) -> Option<&Kafka> {
        self.kafka.as_ref()
    }

    /// A PostgreSQL of its own; the broker at `kafka_servers` if given, else a mock cluster.
    pub async fn start(kafka_servers: Option<String>) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let database_url = postgres.database().await?;
        Self::with_database(database_url, Some(postgres), kafka_servers)
    }

    /// A database of the PostgreSQL that all tests of this process share, and a mock cluster.
    pub async fn for_test() -> Result<Self> {
        Self::on(Postgres::shared().await?).await
    }

    /// A database of this server, and a mock cluster.
    pub async fn on(postgres: &Postgres) -> Result<Self> {
        Self::with_database(postgres.database().await?, None, None)
    }

    /// As [`for_test`](Self::for_test), with nothing in the database.
    pub async fn for_empty_test() -> Result<Self> {
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
            None => Some(Kafka::start(
                &[BOOK_ADDED, BOOK_ADDED_DEAD_LETTER],
                PARTITIONS,
            )?),
        };
        let kafka_servers = kafka_servers
            .or_else(|| kafka.as_ref().map(Kafka::bootstrap_servers))
            .context("there is a broker")?;
        Ok(Self {
            database_url,
            kafka_servers,
            kafka,
            postgres,
        })
    }

    /// How to start a service: everything it must be told, beside where the other one is.
    pub fn spec(&self, name: &str, program: &Path, sink: &Sink) -> Spec {
        // A port that stays free while the service is down, so that it starts again where it was.
        let listen_addr = format!("127.0.0.1:{}", port::free().unwrap_or(0));
        Spec::new(name, program)
            .env("LISTEN_ADDR", listen_addr)
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("DATABASE_URL", &self.database_url)
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.kafka_servers)
            // The mock cluster has no Admin API; its topics are there already.
            .env("KAFKA_CREATE_TOPICS", self.kafka.is_none().to_string())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint())
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "500")
            .env("LOG_FORMAT", "json")
            .env("RUST_LOG", "info")
    }
}

impl System {
    /// Starts both services and waits until they are ready.
    pub async fn start(binaries: &Binaries, parts: Parts) -> Result<Self> {
        Self::start_with(binaries, parts, |spec| spec).await
    }

    /// As [`start`](Self::start), each service's settings changed by `adjust`.
    pub async fn start_with(
        binaries: &Binaries,
        parts: Parts,
        adjust: impl Fn(Spec) -> Spec,
    ) -> Result<Self> {
        let sink = Sink::start().await?;
        let backend = adjust(parts.spec("backend", &binaries.backend, &sink));
        let backend = Service::start(&backend).await?;
        let bookapp = parts.spec("bookapp", &binaries.bookapp, &sink);
        let bookapp = adjust(bookapp.env("BACKEND_URL", &backend.url));
        let bookapp = Service::start(&bookapp).await?;
        bookapp.ready().await?;
        backend.ready().await?;
        let Parts {
            database_url,
            kafka_servers,
            kafka,
            postgres,
        } = parts;
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
    /// Starts a service and waits for its addresses.
    pub async fn start(spec: &Spec) -> Result<Self> {
        let service = Self::start_bare(spec).await?;
        let admin_url = announced(&service.process, "admin on ").await?;
        Ok(Self {
            admin_url,
            ..service
        })
    }

    /// Starts a program that has no admin listener, and waits for its address.
    pub async fn start_bare(spec: &Spec) -> Result<Self> {
        let process = Process::start(spec)?;
        let url = announced(&process, "listening on ").await?;
        let address = url.trim_start_matches("http://").to_owned();
        let spec = spec.clone().env("LISTEN_ADDR", address);
        Ok(Self {
            url,
            admin_url: String::new(),
            process,
            spec,
        })
    }

    /// Starts it again where it was, after its end.
    pub async fn start_again(&mut self) -> Result<()> {
        *self = Self::start(&self.spec).await?;
        Ok(())
    }

    /// Another instance of it, on a port of its own.
    pub async fn another(&self) -> Result<Self> {
        Self::start(&self.spec.clone().env("LISTEN_ADDR", "127.0.0.1:0")).await
    }

    /// Waits until it can work.
    pub async fn ready(&self) -> Result<()> {
        let url = format!("{}/health/ready", self.url);
        let client = http()?;
        let ready = || async {
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        };
        eventually(START, &url, ready)
            .await
            .with_context(|| format!("it said:\n{}", self.process.lines().join("\n")))
    }
}

/// The URL of an address that a process prints behind `words`, as text or as a JSON line's message.
async fn announced(process: &Process, words: &str) -> Result<String> {
    let address = |line: &str| {
        let json = serde_json::from_str::<Value>(line).ok();
        let message = json
            .as_ref()
            .map_or(line, |json| json["message"].as_str().unwrap_or(line));
        message.strip_prefix(words).map(str::to_owned)
    };
    Ok(format!("http://{}", process.line(START, address).await?))
}

/// A plain HTTP client: the user's, who sends no trace.
pub fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()?)
}

/// Builds the binaries of these packages; answers where they are.
pub fn build(packages: &[&str], profile: &str) -> Result<HashMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--message-format=json-render-diagnostics"]);
    command.args(["--profile", profile]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let output = command.output().context("could not run cargo")?;
    if !output.status.success() {
        bail!("the services do not build");
    }
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let executables: HashMap<String, PathBuf> = messages
        .filter_map(|message| {
            let message = message.ok()?;
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect();
    ensure!(!executables.is_empty(), "cargo named no executable");
    Ok(executables)
}
