//! The lifecycle of a process: start of telemetry, signals, graceful shutdown and exit code.
//!
//! A cancellation token stops the tasks. The shutdown waits for the tasks until a deadline.

use std::{
    net::SocketAddr,
    process::{ExitCode, exit},
    time::Duration,
};

use anyhow::{Result, anyhow};
use serde_json::json;
use telemetry_common::{LogFormat, Service, TelemetryConfig, exception, layers, task::JoinSet};
use tokio::{
    runtime::Runtime,
    select,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Admin;

/// The two steps of a shutdown. Its clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled first. From then on, the service is not ready, so that load balancers stop sending
    /// requests to it, and it still serves.
    pub drain: CancellationToken,
    /// Cancelled when the drain time is over. From then on, the service accepts no connection.
    pub stop: CancellationToken,
}

impl Shutdown {
    /// Takes both steps at once.
    pub fn cancel(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}

/// The properties of a process.
#[derive(Debug)]
pub struct ProcessConfig<'c> {
    /// The name and version of the service.
    pub service: Service,
    /// The settings of telemetry.
    pub telemetry: &'c TelemetryConfig,
    /// The admin listener; `None` for a command, which ends on its own.
    pub admin: Option<Admin>,
    /// The time between SIGTERM and the shutdown.
    pub drain: Duration,
    /// The time limit of the shutdown.
    pub grace: Duration,
}

/// Runs a process: starts telemetry, executes `run`, flushes telemetry and returns the exit code.
///
/// The first SIGTERM or SIGINT begins the shutdown that `run` gets.
pub fn main<F: Future<Output = Result<()>>>(
    config: ProcessConfig<'_>,
    run: impl FnOnce(Shutdown) -> F,
) -> ExitCode {
    let ProcessConfig {
        service,
        drain,
        grace,
        ..
    } = config;
    let runtime = Runtime::new().expect("the runtime can create its threads");
    let entered = runtime.enter();
    let telemetry = telemetry_common::builder(service)
        .config(config.telemetry.clone())
        .with_layer(layers::metrics());
    #[cfg(feature = "tokio-console")]
    let telemetry = telemetry.with_layer(console_subscriber::spawn());
    let telemetry = match telemetry.install() {
        Ok(telemetry) => telemetry,
        Err(error) => crate::settings::exit_with(&error.into()),
    };
    let shutdown = Shutdown::default();
    let mut background = JoinSet::new();
    background.spawn(handle_signals(shutdown.clone(), drain, grace));
    let result = runtime.block_on(async {
        if let Some(admin) = config.admin {
            background.spawn(
                admin
                    .open(
                        &telemetry,
                        config.telemetry.console_format(),
                        shutdown.stop.clone(),
                    )
                    .await?,
            );
        }
        run(shutdown).await
    });
    if let Err(error) = &result {
        exception!(
            error,
            "bookapp.service.failed",
            &**error,
            "{} failed",
            service.name
        );
    }
    // Flush after a failure, too: telemetry of a failing start is the most important one.
    telemetry.shutdown(grace.mul_f32(1.0 - TASKS_SHARE));
    // Do not wait for blocked threads, for example of librdkafka waiting for a broker.
    drop(entered);
    runtime.shutdown_background();
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The share of the shutdown time for the tasks. The rest is for flushing telemetry.
pub(crate) const TASKS_SHARE: f32 = 0.8;

/// Begins the shutdown at the first SIGTERM or SIGINT. The second signal ends the process
/// immediately.
///
/// SIGTERM comes from a program that deploys, and a load balancer may still send requests for a
/// moment. SIGINT comes from a person at a terminal, so it has no drain time.
async fn handle_signals(
    shutdown: Shutdown,
    drain: Duration,
    grace: Duration,
) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut next = async || {
        select! {
            _ = terminate.recv() => ("SIGTERM", drain),
            _ = interrupt.recv() => ("SIGINT", Duration::ZERO),
        }
    };
    let (name, drain) = next().await;
    info!(name: "bookapp.service.stopping", "{name} received, draining for {drain:?}, then stopping within {grace:?}");
    shutdown.drain.cancel();
    select! {
        () = sleep(drain) => shutdown.stop.cancel(),
        _ = next() => exit(1),
    }
    next().await;
    exit(1)
}

/// Waits until the shutdown stops the tasks or the first task ends. Then stops the other tasks, and
/// waits for them within their share of `grace`.
pub async fn supervise(
    mut tasks: JoinSet<Result<()>>,
    shutdown: Shutdown,
    grace: Duration,
) -> Result<()> {
    let mut result = select! {
        () = shutdown.stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) if shutdown.stop.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(anyhow!("a task ended before the shutdown")),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(panic.into()),
        },
    };
    shutdown.cancel();
    let grace = grace.mul_f32(TASKS_SHARE);
    let drained = timeout(grace, async {
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(Into::into).and_then(|ended| ended);
            if result.is_ok() {
                result = ended;
            }
        }
    });
    if drained.await.is_err() {
        warn!(name: "bookapp.service.tasks_left", "{} tasks did not end within {grace:?}", tasks.len());
    }
    result
}

/// Prints the address of the service to stdout, for the program that started the service, and logs
/// it.
pub fn announce(address: SocketAddr, format: LogFormat) {
    let message = format!("listening on {address}");
    print(&message, format);
    info!(name: "bookapp.service.listening", "{message}");
}

/// Prints `message` to stdout in the format of the console, independent of the log filter.
///
/// A container engine merges stdout and stderr into one stream, so both must have the same format.
#[expect(
    clippy::print_stdout,
    reason = "the program that starts the service reads the address"
)]
pub(crate) fn print(message: &str, format: LogFormat) {
    match format {
        LogFormat::Json => println!("{}", json!({ "message": message })),
        LogFormat::Logfmt => println!("msg={message:?}"),
        _ => println!("{message}"),
    }
}
