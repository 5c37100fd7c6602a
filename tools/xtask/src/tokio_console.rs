//! Builds both services with tokio-console, and connects to each as tokio-console does.
#![expect(clippy::print_stdout, reason = "the command prints what it found")]

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use console_api::instrument::{InstrumentRequest, instrument_client::InstrumentClient};
use testbed::{
    System, port,
    system::{Binaries, Dependencies},
};
use tokio::{runtime::Runtime, time::timeout};

use crate::{cargo, step};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The option without which tokio does not trace its tasks.
const RUSTFLAGS: &str = "--cfg tokio_unstable";

pub(crate) fn run() -> Result<()> {
    step("building both services with the feature tokio-console");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let target = target.join("tokio-console");
    let directory = format!("--target-dir={}", target.display());
    let packages = ["--package", "bookapp", "--package", "backend"];
    cargo::run(
        &[
            &[
                "build",
                "--quiet",
                "--features",
                "tokio-console",
                &directory,
            ],
            &packages[..],
        ]
        .concat(),
        &[("RUSTFLAGS", RUSTFLAGS)],
    )?;
    let binaries = Binaries::in_folder(&target.join("debug"));
    Runtime::new()?.block_on(async {
        step("starting the system");
        let ports = [("backend", port::free()?), ("bookapp", port::free()?)];
        let dependencies = Dependencies::start(None).await?;
        let system = System::start_with(&binaries, dependencies, |spec| {
            let port = ports.iter().find(|(name, _)| *name == spec.name);
            let port = port.map_or(0, |(_, port)| *port);
            spec.env("TOKIO_CONSOLE_BIND", format!("127.0.0.1:{port}"))
        })
        .await?;
        for (name, port) in ports {
            println!("{name}: {} tasks", tasks(port).await?);
        }
        drop(system);
        Ok(())
    })
}

/// Returns the number of tasks in the first update that lists any.
async fn tasks(port: u16) -> Result<usize> {
    let address = format!("http://127.0.0.1:{port}");
    let mut client = InstrumentClient::connect(address).await?;
    let updates = client.watch_updates(InstrumentRequest {}).await?;
    let mut updates = updates.into_inner();
    loop {
        let update = timeout(TIMEOUT, updates.message()).await??;
        let update = update.context("the service closed the connection")?;
        let tasks = update
            .task_update
            .map_or(0, |update| update.new_tasks.len());
        if tasks > 0 {
            return Ok(tasks);
        }
    }
}
