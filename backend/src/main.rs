//! Settings → telemetry → run → flush; nothing else.

use std::process::ExitCode;

use anyhow::Result;
use backend::{
    config::{Command, Config},
    consumer,
};
use service_common::{health, lifecycle, openapi, settings};
use telemetry_common::service;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let config: Config = settings::read();
    match config.command {
        Some(Command::Healthcheck) => health::check(config.listen_addr),
        Some(Command::Openapi) => openapi::print(&backend::openapi::document()),
        Some(Command::ReplayDeadLetters { dry_run }) => live(config, |config, stop| {
            consumer::replay(config, dry_run, stop)
        }),
        None => {
            settings::require(config.postgres.options());
            live(config, backend::run)
        }
    }
}

fn live<F: Future<Output = Result<()>>>(
    config: Config,
    run: impl FnOnce(Config, CancellationToken) -> F,
) -> ExitCode {
    let (telemetry, grace) = (config.telemetry.clone(), config.shutdown_timeout);
    lifecycle::main(service!(), &telemetry, grace, |stop| run(config, stop))
}
