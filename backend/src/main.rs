//! Reads the settings and runs the service, or one of the commands.

use std::process::ExitCode;

use backend::{
    config::{Command, Config},
    consumer,
};
use service_common::{health, lifecycle, openapi, settings};
use telemetry_common::service;

fn main() -> ExitCode {
    let config: Config = settings::read();
    match config.command {
        Some(Command::Healthcheck) => health::check(config.service.listen_addr),
        Some(Command::Openapi) => openapi::print(&backend::openapi::document()),
        Some(Command::ReplayDeadLetters { dry_run }) => {
            let life = config.service.command(service!());
            lifecycle::main(life, |stop| consumer::replay(config.clone(), dry_run, stop))
        }
        None => {
            settings::require(config.service.postgres.options());
            let life = config.service.life(service!());
            lifecycle::main(life, |stop| backend::run(config.clone(), stop))
        }
    }
}
