//! Settings → telemetry → run → flush; nothing else.

use std::process::ExitCode;

use bookapp::config::{Command, Config};
use service_common::{
    health,
    lifecycle::{self, Life},
    openapi, settings,
};
use telemetry_common::service;

fn main() -> ExitCode {
    let config: Config = settings::read();
    match config.command {
        Some(Command::Healthcheck) => health::check(config.listen_addr),
        Some(Command::Openapi) => openapi::print(&bookapp::openapi::document()),
        None => {
            settings::require(config.postgres.options());
            let life = Life {
                service: service!(),
                telemetry: &config.telemetry,
                admin: Some(config.admin()),
                grace: config.shutdown_timeout,
            };
            lifecycle::main(life, |stop| bookapp::run(config.clone(), stop))
        }
    }
}
