//! Every setting of this service.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, Subcommand};
use reqwest::Url;
use service_common::{
    admin::{Admin, AdminConfig},
    kafka::KafkaConfig,
    postgres::PostgresConfig,
    server::ServerConfig,
};
use telemetry_common::TelemetryConfig;

/// The HTTP API: owns books, writes them, announces them.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// What to do; without it, run the service.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address of the API; port 0 takes a free one.
    #[arg(
        long,
        env,
        default_value = "127.0.0.1:8000",
        value_name = "ADDR",
        global = true
    )]
    pub listen_addr: SocketAddr,

    /// Address of the admin listener; port 0 takes a free one.
    #[arg(long, env, default_value = "127.0.0.1:9464", value_name = "ADDR")]
    pub admin_addr: SocketAddr,

    /// The admin listener.
    #[command(flatten)]
    pub admin: AdminConfig,

    /// HTTP.
    #[command(flatten)]
    pub server: ServerConfig,

    /// PostgreSQL.
    #[command(flatten)]
    pub postgres: PostgresConfig,

    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// Where the backend's API is.
    #[arg(long, env, default_value = "http://127.0.0.1:8001", value_name = "URL")]
    pub backend_url: Url,

    /// How long the backend may take to answer.
    #[arg(long, env, default_value = "1s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub backend_timeout: Duration,

    /// How long sent messages stay in the outbox.
    #[arg(long, env, default_value = "24h", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub outbox_retention: Duration,

    /// How long work in hand may take to finish when the service is told to stop.
    #[arg(long, env, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub shutdown_timeout: Duration,

    /// Telemetry.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

impl Config {
    /// The admin listener.
    pub fn admin(&self) -> Admin {
        Admin {
            address: self.admin_addr,
            config: self.admin.clone(),
        }
    }
}

/// What the binary does beside running the service.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Ask the running service whether it is ready: exit code 0 or 1.
    Healthcheck,
    /// Print the OpenAPI document of the API.
    Openapi,
}
