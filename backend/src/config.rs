//! The settings of this service. The shared ones are in `service_common::settings` and
//! `telemetry_common::config`; `backend --help` lists all of them.

use std::time::Duration;

use clap::{Parser, Subcommand, builder::RangedU64ValueParser};
use service_common::settings::ServiceConfig;
use telemetry_common::kafka::TraceRelation;

use crate::dead_letters;

/// The worker: consumes book events, derives details of the books and serves them over HTTP.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    mut_arg("listen_addr", |address| address.default_value("127.0.0.1:8001")),
    mut_arg("admin_addr", |address| address.default_value("127.0.0.1:9465"))
)]
pub struct Config {
    /// The command to run. Without a command, the service runs.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The settings that both services have.
    #[command(flatten)]
    pub service: ServiceConfig,

    /// How the trace of processing a message relates to the trace that created the message.
    #[arg(long, env, default_value = "link", value_name = "RELATION")]
    pub kafka_trace_relation: TraceRelation,

    /// Maximum number of messages of a partition that are processed in one transaction.
    #[arg(long, env, default_value = "512", value_name = "NUMBER",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=2048))]
    pub kafka_max_batch: usize,

    /// Retention time of the ids of processed events. An event that is delivered later is processed again,
    /// which derives the same details.
    #[arg(long, env, default_value = "30d", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub ledger_retention: Duration,
}

/// The commands of the binary, in addition to running the service.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check the readiness of the running service: exit code 0 if it is ready, otherwise 1.
    Healthcheck,
    /// Print the OpenAPI document of the API.
    Openapi,
    /// List, show, replay or discard dead letters: messages that could not be processed.
    #[command(subcommand)]
    DeadLetters(dead_letters::commands::Command),
}
