//! The settings. clap reads them once, from options or environment variables.

use std::{net::SocketAddr, process::exit, time::Duration};

use clap::{ArgAction, Args, Parser};
use telemetry_common::{Service, TelemetryConfig};

use crate::{
    admin::Admin, authorization::AdminToken, kafka::KafkaConfig, lifecycle::ProcessConfig,
    postgres::PostgresConfig, server::ServerConfig,
};

/// The settings that both services have. Each service sets the defaults of its two addresses.
#[derive(Args, Clone, Debug)]
pub struct ServiceConfig {
    /// Address of the API. Port 0 selects a free port.
    #[arg(long, env, value_name = "ADDR", global = true, required = false)]
    pub listen_addr: SocketAddr,

    /// Address of the admin listener. Port 0 selects a free port.
    #[arg(long, env, value_name = "ADDR", required = false)]
    pub admin_addr: SocketAddr,

    /// Authorization of writes.
    #[command(flatten)]
    pub admin_token: AdminToken,

    /// Whether fault rules make requests and messages fail, for tests and demonstrations. Otherwise the
    /// API of the rules does not exist.
    #[arg(long, env, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub fault_injection: bool,

    /// HTTP.
    #[command(flatten)]
    pub server: ServerConfig,

    /// PostgreSQL.
    #[command(flatten)]
    pub postgres: PostgresConfig,

    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// Time between SIGTERM and the shutdown. In it, the service is not ready and still serves, so that
    /// load balancers stop sending requests to it.
    #[arg(long, env, default_value = "2s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub shutdown_drain_time: Duration,

    /// Time limit for finishing the current requests and messages at shutdown.
    #[arg(long, env, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub shutdown_timeout: Duration,

    /// Telemetry.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

impl ServiceConfig {
    /// Checks the settings that the command line does not check. For an invalid one, prints one line and
    /// exits with code 2.
    pub fn check(&self) {
        let postgres = self.postgres.options().map(drop);
        require(postgres.and_then(|()| self.kafka.check()));
    }

    /// Returns the configuration of the process of a service, with an admin listener.
    pub fn service_process(&self, service: Service) -> ProcessConfig<'_> {
        ProcessConfig {
            admin: Some(Admin {
                address: self.admin_addr,
                token: self.admin_token.clone(),
            }),
            drain: self.shutdown_drain_time,
            ..self.command_process(service)
        }
    }

    /// Returns the configuration of the process of a command, without an admin listener.
    pub fn command_process(&self, service: Service) -> ProcessConfig<'_> {
        ProcessConfig {
            service,
            telemetry: &self.telemetry,
            admin: None,
            drain: Duration::ZERO,
            grace: self.shutdown_timeout,
        }
    }
}

/// Reads the settings. For an invalid setting, prints one line and exits with code 2. `--help`
/// prints all settings.
#[expect(clippy::print_stderr, reason = "telemetry has not started yet")]
pub fn read<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let message = error.to_string();
        let first: Vec<_> = message
            .lines()
            .take_while(|line| !line.is_empty())
            .collect();
        eprintln!(
            "{}",
            first
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join(" ")
        );
        exit(2);
    })
}

/// Returns a parsed setting. For an invalid setting, prints one line and exits with code 2.
fn require<T>(setting: anyhow::Result<T>) -> T {
    setting.unwrap_or_else(|error| exit_with(&error))
}

/// Prints the reason why a setting is invalid in one line, and exits with code 2.
#[expect(clippy::print_stderr, reason = "telemetry has not started yet")]
pub fn exit_with(error: &anyhow::Error) -> ! {
    eprintln!("error: {error:#}");
    exit(2);
}
