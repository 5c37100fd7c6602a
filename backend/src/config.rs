//! Every setting of this service.

use clap::{Parser, Subcommand};
use service_common::settings::ServiceConfig;
use telemetry_common::kafka::TraceRelation;

/// The worker: consumes book events, derives details, serves them over HTTP.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    mut_arg("listen_addr", |address| address.default_value("127.0.0.1:8001")),
    mut_arg("admin_addr", |address| address.default_value("127.0.0.1:9465"))
)]
pub struct Config {
    /// What to do; without it, run the service.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What both services share.
    #[command(flatten)]
    pub service: ServiceConfig,

    /// How the trace of processing a message relates to the trace that created the message.
    #[arg(long, env, default_value = "link", value_name = "RELATION")]
    pub kafka_trace_relation: TraceRelation,
}

/// The commands of the binary beside running the service.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Request the running service's readiness: exit code 0 when it is ready, else 1.
    Healthcheck,
    /// Print the OpenAPI document of the API.
    Openapi,
    /// Send the dead letters that were not sent before to their original topic again.
    ReplayDeadLetters {
        /// List them without sending.
        #[arg(long)]
        dry_run: bool,
    },
}
