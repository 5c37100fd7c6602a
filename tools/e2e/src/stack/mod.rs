//! The components of the stack, as child processes ([`native`]) or in containers (`docker
//! compose`). Checks and drills work the same way for both.

pub mod alerting;
mod compose;
mod ingress;
pub mod native;
mod part;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use testbed::{
    process::{Process, Spec},
    sink::Sink,
};

pub use native::Tools;
pub use part::Part;

const START: Duration = Duration::from_mins(1);

/// The URL of Prometheus.
pub const PROMETHEUS: &str = "http://127.0.0.1:9090";
/// The URL of Alertmanager.
pub const ALERTMANAGER: &str = "http://127.0.0.1:9093";
/// The URL of Loki.
pub const LOKI: &str = "http://127.0.0.1:3100";
/// The URL of Bugsink, the Sentry-compatible server.
pub const BUGSINK: &str = "http://127.0.0.1:8002";
/// The token for Bugsink's API, which `stack/bugsink/project.py` creates.
pub(crate) const BUGSINK_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
/// The URL of Jaeger's API.
pub const JAEGER: &str = "http://127.0.0.1:16686";
/// The URL of Traefik, the ingress.
pub const TRAEFIK: &str = "http://127.0.0.1:8080";
/// The URL of a Traefik that passes the trace on in Jaeger's header; only in the native stack.
pub const TRAEFIK_JAEGER: &str = "http://127.0.0.1:8081";
/// The URL of the collector's OTLP/HTTP receiver.
pub const COLLECTOR: &str = "http://127.0.0.1:4318";

/// The running stack. Its processes stop on drop; containers keep running.
pub struct Stack {
    /// The URL of bookapp, the API.
    pub bookapp: String,
    /// The URL of backend, the worker.
    pub backend: String,
    /// The URL of the database.
    pub database_url: String,
    /// The URL of the trace store: Tempo or the OTLP sink.
    pub traces_url: String,
    /// Whether the trace store is Tempo.
    pub is_tempo: bool,
    /// The trace store.
    pub trace_store: Part,
    /// Prometheus.
    pub prometheus: Part,
    /// Loki.
    pub loki: Part,
    /// The collector.
    pub collector: Part,
    /// The telemetry that the collector received; `None` in docker compose.
    pub received: Option<Sink>,
    locust: PathBuf,
    root: PathBuf,
    /// The other processes; `None` in docker compose.
    pub(crate) processes: Option<native::Processes>,
}

impl Stack {
    /// Returns the root of the checkout.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether the components are containers.
    pub(crate) fn is_compose(&self) -> bool {
        self.processes.is_none()
    }

    /// Runs Locust for this number of seconds, through the ingress if its URL is given. Fails if Locust
    /// fails.
    pub async fn run_load(&self, seconds: u64, ingress: Option<&str>) -> Result<()> {
        let locust = Spec::new("locust", &self.locust)
            .arg("--locustfile")
            .arg(self.root.join("requests/locustfile.py"))
            .arg("--headless")
            .arg("--only-summary")
            .arg("--users=10")
            .arg("--spawn-rate=10")
            .arg(format!("--run-time={seconds}s"))
            .arg(format!("--host={}", self.bookapp))
            .env("INGRESS_URL", ingress.unwrap_or_default())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR);
        let locust = Process::start(&locust)?;
        let timeout = Duration::from_secs(seconds) + START;
        let status = locust.wait(timeout).await?;
        ensure!(
            status.success(),
            "locust failed:\n{}",
            locust.lines().join("\n")
        );
        Ok(())
    }
}
