//! Settings → telemetry → run → flush; nothing else.

use std::process::ExitCode;

use anyhow::Result;
use backend::{
    config::{Command, Config},
    consumer,
};
use service_common::{
    admin::Admin,
    health,
    lifecycle::{self, Life},
    openapi, settings,
};
use telemetry_common::service;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let config: Config = settings::read();
    match config.command {
        Some(Command::Healthcheck) => health::check(config.listen_addr),
        Some(Command::Openapi) => openapi::print(&backend::openapi::document()),
        Some(Command::ReplayDeadLetters { dry_run }) => live(&config, None, |config, stop| {
            consumer::replay(config, dry_run, stop)
        }),
        None => {
            settings::require(config.postgres.options());
            let admin = Some(config.admin());
            live(&config, admin, backend::run)
        }
    }
}

fn live<F: Future<Output = Result<()>>>(
    config: &Config,
    admin: Option<Admin>,
    run: impl FnOnce(Config, CancellationToken) -> F,
) -> ExitCode {
    let life = Life {
        service: service!(),
        telemetry: &config.telemetry,
        admin,
        grace: config.shutdown_timeout,
    };
    lifecycle::main(life, |stop| run(config.clone(), stop))
}
