//! The settings of this service. The shared ones are in `service_common::settings` and
//! `telemetry_common::config`; `bookapp --help` lists all of them.

use std::time::Duration;

use clap::{Parser, Subcommand};
use reqwest::Url;
use service_common::settings::ServiceConfig;

/// The HTTP API: stores books and publishes an event for each one that is added.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    mut_arg("listen_addr", |address| address.default_value("127.0.0.1:8000")),
    mut_arg("admin_addr", |address| address.default_value("127.0.0.1:9464"))
)]
pub struct Config {
    /// The command to run. Without a command, the service runs.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The settings that both services have.
    #[command(flatten)]
    pub service: ServiceConfig,

    /// Base URL of the backend's API.
    #[arg(long, env, default_value = "http://127.0.0.1:8001", value_name = "URL")]
    pub backend_url: Url,

    /// Timeout of a request to the backend.
    #[arg(long, env, default_value = "1s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub backend_timeout: Duration,

    /// URL of Alertmanager in a browser. If it is set, the start page shows the active alerts.
    #[arg(long, env, value_name = "URL")]
    pub alertmanager_url: Option<Url>,

    /// URL of otlp-viewer in a browser. If it is set, the start page links to it instead of Grafana and the
    /// other parts of docker compose.
    #[arg(long, env, value_name = "URL")]
    pub viewer_url: Option<Url>,

    /// Retention time of sent messages in the outbox.
    #[arg(long, env, default_value = "24h", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub outbox_retention: Duration,
}

/// The commands of the binary, in addition to running the service.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Check the readiness of the running service: exit code 0 if it is ready, otherwise 1.
    Healthcheck,
    /// Migrate the database and exit. The service does the same when it starts.
    Migrate,
    /// Print the OpenAPI document of the API.
    Openapi,
}
