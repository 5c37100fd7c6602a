//! Settings are read once, by clap, from flags or environment.

use std::{net::SocketAddr, process::exit, time::Duration};

use clap::{Args, Parser};
use telemetry_common::{Service, TelemetryConfig};

use crate::{
    admin::Admin, authorization::AdminToken, kafka::KafkaConfig, lifecycle::Life,
    postgres::PostgresConfig, server::ServerConfig,
};

/// The settings that both services have. Each service sets the defaults of its two addresses.
#[derive(Args, Clone, Debug)]
pub struct ServiceConfig {
    /// Address of the API; port 0 takes a free one.
    #[arg(long, env, value_name = "ADDR", global = true)]
    pub listen_addr: SocketAddr,

    /// Address of the admin listener; port 0 takes a free one.
    #[arg(long, env, value_name = "ADDR")]
    pub admin_addr: SocketAddr,

    /// Authorization of writes.
    #[command(flatten)]
    pub admin_token: AdminToken,

    /// HTTP.
    #[command(flatten)]
    pub server: ServerConfig,

    /// PostgreSQL.
    #[command(flatten)]
    pub postgres: PostgresConfig,

    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaConfig,

    /// Time limit for finishing the current requests and messages at shutdown.
    #[arg(long, env, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub shutdown_timeout: Duration,

    /// Telemetry.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
}

impl ServiceConfig {
    /// The process of a service: with an admin listener.
    pub fn life(&self, service: Service) -> Life<'_> {
        Life {
            admin: Some(Admin {
                address: self.admin_addr,
                token: self.admin_token.clone(),
            }),
            ..self.command(service)
        }
    }

    /// The process of a command that ends by itself: without an admin listener.
    pub fn command(&self, service: Service) -> Life<'_> {
        Life {
            service,
            telemetry: &self.telemetry,
            admin: None,
            grace: self.shutdown_timeout,
        }
    }
}

/// Reads the settings; a wrong one prints one line and exits with 2, `--help` prints all of them.
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

/// Unwraps a parsed setting; a wrong one prints one line and exits with 2.
pub fn require<T>(setting: anyhow::Result<T>) -> T {
    setting.unwrap_or_else(|error| refuse(&error))
}

/// Prints in one line why a setting cannot be used, and exits with 2.
#[expect(clippy::print_stderr, reason = "telemetry has not started yet")]
pub fn refuse(error: &anyhow::Error) -> ! {
    eprintln!("error: {error:#}");
    exit(2);
}
