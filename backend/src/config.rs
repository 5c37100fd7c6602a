//! Every setting of this service.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, Subcommand};
use service_common::{
    admin::{Admin, AdminConfig},
    kafka::KafkaConfig,
    postgres::PostgresConfig,
    server::ServerConfig,
};
use telemetry_common::{TelemetryConfig, kafka::TraceRelation};

/// The worker: consumes book events, derives details, serves them over HTTP.
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
        default_value = "127.0.0.1:8001",
        value_name = "ADDR",
        global = true
    )]
    pub listen_addr: SocketAddr,

    /// Address of the admin listener; port 0 takes a free one.
    #[arg(long, env, default_value = "127.0.0.1:9465", value_name = "ADDR")]
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

    /// How the trace of processing a message relates to the trace that created it.
    #[arg(long, env, default_value = "link", value_name = "RELATION")]
    pub kafka_trace_relation: TraceRelation,

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
    /// Send the dead letters again that were not sent before.
    ReplayDeadLetters {
        /// Only list them.
        #[arg(long)]
        dry_run: bool,
    },
}
