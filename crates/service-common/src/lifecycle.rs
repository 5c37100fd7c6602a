//! One value owns stopping: a token says "finish", the tasks are waited for, a deadline ends the
//! wait.

use std::{
    net::SocketAddr,
    process::{ExitCode, exit},
    time::Duration,
};

use anyhow::{Result, anyhow};
use serde_json::json;
use telemetry_common::{LogFormat, Service, TelemetryConfig, exception};
use tokio::{
    runtime::Runtime,
    select,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Admin;

/// What a process is beside its work.
#[derive(Debug)]
pub struct Life<'c> {
    /// Who it is.
    pub service: Service,
    /// How it tells about itself.
    pub telemetry: &'c TelemetryConfig,
    /// Where an operator asks it; a command that ends by itself has no such place.
    pub admin: Option<Admin>,
    /// How long it may take to stop.
    pub grace: Duration,
}

/// The life of a service's process: telemetry → `run` until told to stop → flush → exit code.
pub fn main<F: Future<Output = Result<()>>>(
    life: Life<'_>,
    run: impl FnOnce(CancellationToken) -> F,
) -> ExitCode {
    let Life { service, grace, .. } = life;
    let runtime = Runtime::new().expect("the system gives a process its threads");
    let entered = runtime.enter();
    let telemetry = match telemetry_common::init(life.telemetry, service) {
        Ok(telemetry) => telemetry,
        Err(error) => crate::settings::refuse(&error.into()),
    };
    let stop = CancellationToken::new();
    let mut watch = JoinSet::new();
    watch.spawn_on(obey_signals(stop.clone(), grace), runtime.handle());
    let result = runtime.block_on(async {
        if let Some(admin) = life.admin {
            watch.spawn(
                admin
                    .open(&telemetry, life.telemetry.console_format(), stop.clone())
                    .await?,
            );
        }
        run(stop).await
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
    // On success and failure alike: a failing start is when telemetry is needed most.
    telemetry.shutdown(grace.mul_f32(1.0 - TASKS));
    // What still blocks a thread, librdkafka waiting for a broker say, is not waited for.
    drop(entered);
    runtime.shutdown_background();
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The share of the time to stop in that the tasks get; the rest is for flushing telemetry.
pub(crate) const TASKS: f32 = 0.8;

/// Cancels `stop` at the first SIGTERM or SIGINT; the second one ends the process at once.
async fn obey_signals(stop: CancellationToken, grace: Duration) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut next = async || {
        select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let name = next().await;
    info!(name: "bookapp.service.stopping", "{name} received, stopping within {grace:?}");
    stop.cancel();
    next().await;
    exit(1)
}

/// Waits until `stop` is called or the first task ends, then gives the others their share of
/// `grace` to finish.
pub async fn supervise(
    mut tasks: JoinSet<Result<()>>,
    stop: CancellationToken,
    grace: Duration,
) -> Result<()> {
    let mut result = select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) if stop.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(anyhow!("a task ended before it was told to")),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(panic.into()),
        },
    };
    stop.cancel();
    let grace = grace.mul_f32(TASKS);
    let drained = timeout(grace, async {
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(Into::into).and_then(|ended| ended);
            if result.is_ok() {
                result = ended;
            }
        }
    });
    if drained.await.is_err() {
        warn!(name: "bookapp.service.tasks_left", "{} tasks were still busy after {grace:?}", tasks.len());
    }
    result
}

/// Prints where the service listens to stdout, for the program that started it, and logs it.
pub fn announce(address: SocketAddr, format: LogFormat) {
    let message = format!("listening on {address}");
    print(&message, format);
    info!(name: "bookapp.service.listening", "{message}");
}

/// Prints `message` to stdout whatever the console's filter is, in the console's format: a container
/// engine collects stdout and stderr as one stream, which is JSON in every line or in none.
#[expect(
    clippy::print_stdout,
    reason = "what starts the service reads its address"
)]
pub(crate) fn print(message: &str, format: LogFormat) {
    match format {
        LogFormat::Text => println!("{message}"),
        LogFormat::Json => println!("{}", json!({ "message": message })),
    }
}
