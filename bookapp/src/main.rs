//! Reads the settings and runs the service, or one of the commands.

use std::process::ExitCode;

use bookapp::config::{Command, Config};
use service_common::{health, lifecycle, openapi, settings};
use telemetry_common::service;

fn main() -> ExitCode {
    let config: Config = settings::read();
    match config.command {
        Some(Command::Healthcheck) => health::check(config.service.listen_addr),
        Some(Command::Migrate) => {
            config.service.check();
            let process = config.service.command_process(service!());
            lifecycle::main(process, |_| bookapp::migrate(&config))
        }
        Some(Command::Openapi) => openapi::print(&bookapp::openapi::document()),
        None => {
            config.service.check();
            let process = config.service.service_process(service!());
            lifecycle::main(process, |shutdown| bookapp::run(config.clone(), shutdown))
        }
    }
}
