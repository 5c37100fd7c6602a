//! The parts, wherever they run: as processes of this one ([`native`]) or in containers
//! (`docker compose`). Checks and drills see no difference.

mod compose;
mod kafka;
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

/// Where Prometheus answers.
pub const PROMETHEUS: &str = "http://127.0.0.1:9090";
/// Where Loki answers.
pub const LOKI: &str = "http://127.0.0.1:3100";
/// Where Bugsink, which speaks Sentry's protocol, answers.
pub const BUGSINK: &str = "http://127.0.0.1:8002";
/// What opens its API; made by `stack/bugsink/project.py`.
pub(crate) const BUGSINK_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
/// Where the collector takes OTLP over HTTP.
pub const COLLECTOR: &str = "http://127.0.0.1:4318";

/// The running stack; its processes are gone on drop.
pub struct Stack {
    /// The API's URL.
    pub bookapp: String,
    /// The worker's URL.
    pub backend: String,
    /// The database's URL.
    pub database_url: String,
    /// Where traces are asked for by id: Tempo, or the sink in its place.
    pub traces_url: String,
    /// Whether that is Tempo.
    pub is_tempo: bool,
    /// What stores traces.
    pub traces: Part,
    /// Prometheus.
    pub prometheus: Part,
    /// Loki.
    pub loki: Part,
    /// The collector.
    pub collector: Part,
    /// What the collector received from the services and Locust, natively.
    pub received: Option<Sink>,
    locust: PathBuf,
    root: PathBuf,
    _processes: Option<native::Processes>,
}

impl Stack {
    /// The checkout whose files it runs.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether its parts are containers.
    pub(crate) fn is_compose(&self) -> bool {
        self._processes.is_none()
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
            .arg(format!("--host={}", self.bookapp))
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR);
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
