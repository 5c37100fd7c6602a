//! A part that can be killed and started again with its data.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{
    eventually,
    process::{Process, Signal, Spec},
    sink::Sink,
    system::http,
};
use tokio::process::Command;

use super::START;

/// A running part.
#[derive(Debug)]
pub struct Part {
    runs: Runs,
    ready: Option<String>,
}

#[derive(Debug)]
enum Runs {
    Process { process: Process, spec: Spec },
    Sink(Sink),
    Compose { service: &'static str },
}

impl Part {
    /// Starts a process and waits until the URL `ready` answers.
    pub(super) async fn start(spec: Spec, ready: String) -> Result<Self> {
        let process = Process::start(&spec)?;
        let part = Self {
            runs: Runs::Process { process, spec },
            ready: Some(ready),
        };
        part.wait().await?;
        Ok(part)
    }

    pub(super) fn sink(sink: Sink) -> Self {
        Self {
            runs: Runs::Sink(sink),
            ready: None,
        }
    }

    pub(super) fn compose(service: &'static str) -> Self {
        Self {
            runs: Runs::Compose { service },
            ready: None,
        }
    }

    /// Kills it, with nothing said.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.runs {
            Runs::Process { process, .. } => {
                process.signal(Signal::SIGKILL);
                process.exited(Duration::from_secs(10)).await.map(drop)
            }
            Runs::Sink(sink) => {
                sink.take_away();
                Ok(())
            }
            Runs::Compose { service } => compose(&["kill", service], &[]).await,
        }
    }

    /// Starts it again and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.start_again_with(&[]).await
    }

    /// As [`start_again`](Self::start_again), with these environment variables beside its own; they
    /// are gone the next time.
    pub async fn start_again_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        match &mut self.runs {
            Runs::Process { process, spec } => {
                let with = |spec: Spec, (name, value): &(&str, &str)| spec.env(name, *value);
                *process = Process::start(&environment.iter().fold(spec.clone(), with))?;
            }
            Runs::Sink(sink) => sink.bring_back().await?,
            Runs::Compose { service } => {
                compose(
                    &["up", "--detach", "--wait", "--no-deps", service],
                    environment,
                )
                .await?;
            }
        }
        self.wait().await
    }

    async fn wait(&self) -> Result<()> {
        let Some(url) = &self.ready else {
            return Ok(());
        };
        let client = http()?;
        let answers = || async {
            let answer = client.get(url).send().await.ok()?;
            answer.error_for_status().ok().map(drop)
        };
        let said = || match &self.runs {
            Runs::Process { process, .. } => process.lines().join("\n"),
            Runs::Sink(_) | Runs::Compose { .. } => String::new(),
        };
        eventually(START, url, answers)
            .await
            .with_context(|| format!("it said:\n{}", said()))
    }
}

/// Runs docker compose in the checkout.
pub(super) async fn compose(args: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new("docker");
    command
        .arg("compose")
        .args(args)
        .envs(environment.iter().copied());
    let status = command.status().await.context("could not run docker")?;
    ensure!(status.success(), "docker compose {} failed", args.join(" "));
    Ok(())
}
