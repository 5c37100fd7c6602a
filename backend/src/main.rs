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
            let process = config.service.command_process(service!());
            lifecycle::main(process, |shutdown| {
                consumer::replay(config.clone(), dry_run, shutdown.stop)
            })
        }
        None => {
            settings::require(config.service.postgres.options());
            let process = config.service.service_process(service!());
            lifecycle::main(process, |shutdown| backend::run(config.clone(), shutdown))
        }
    }
}
