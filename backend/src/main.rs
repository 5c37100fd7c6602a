//! Reads the settings and runs the service, or one of the commands.

use std::process::ExitCode;

use backend::{
    config::{Command, Config},
    dead_letters::commands,
};
use service_common::{health, lifecycle, openapi, settings};
use telemetry_common::service;

fn main() -> ExitCode {
    let config: Config = settings::read();
    match config.command.clone() {
        Some(Command::Healthcheck) => health::check(config.service.listen_addr),
        Some(Command::Openapi) => openapi::print(&backend::openapi::document()),
        Some(Command::DeadLetters(command)) => {
            config.service.check();
            let process = config.service.command_process(service!());
            lifecycle::main(process, |shutdown| {
                commands::run(config.clone(), command, shutdown.stop)
            })
        }
        None => {
            config.service.check();
            let process = config.service.service_process(service!());
            lifecycle::main(process, |shutdown| backend::run(config.clone(), shutdown))
        }
    }
}
