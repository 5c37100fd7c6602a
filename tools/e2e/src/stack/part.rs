//! A component of the stack that drills can kill and restart.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::{
    eventually,
    process::{Process, Signal, Spec},
    sink::Sink,
    system::http,
};
use tokio::process::Command;

use super::START;

/// A running component of the stack.
#[derive(Debug)]
pub struct Part {
    kind: Kind,
    health_url: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Process { process: Process, spec: Spec },
    Sink(Sink),
    Compose { service: &'static str },
}

impl Part {
    /// Starts a process and waits until `health_url` responds with success.
    pub(crate) async fn start(spec: Spec, health_url: String) -> Result<Self> {
        let process = Process::start(&spec)?;
        let part = Self {
            kind: Kind::Process { process, spec },
            health_url: Some(health_url),
        };
        part.wait_until_ready().await?;
        Ok(part)
    }

    pub(super) fn sink(sink: Sink) -> Self {
        Self {
            kind: Kind::Sink(sink),
            health_url: None,
        }
    }

    pub(super) fn compose(service: &'static str) -> Self {
        Self {
            kind: Kind::Compose { service },
            health_url: None,
        }
    }

    /// Returns the CPU time of the process so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        match &self.kind {
            Kind::Process { process, .. } => process.cpu_time(),
            Kind::Sink(_) | Kind::Compose { .. } => bail!("the component is not a process"),
        }
    }

    /// Kills the component without a graceful shutdown.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Process { process, .. } => {
                process.signal(Signal::SIGKILL);
                process.wait(Duration::from_secs(10)).await.map(drop)
            }
            Kind::Sink(sink) => {
                sink.stop();
                Ok(())
            }
            Kind::Compose { service } => compose(&["kill", service], &[]).await,
        }
    }

    /// Starts the killed component again with its data, and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_with(&[]).await
    }

    /// Does the same as [`restart`](Self::restart), with additional environment variables. The next
    /// restart does not keep them.
    pub async fn restart_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        match &mut self.kind {
            Kind::Process { process, spec } => {
                let with = |spec: Spec, (name, value): &(&str, &str)| spec.env(name, *value);
                *process = Process::start(&environment.iter().fold(spec.clone(), with))?;
            }
            Kind::Sink(sink) => sink.restart().await?,
            Kind::Compose { service } => {
                compose(
                    &["up", "--detach", "--wait", "--no-deps", service],
                    environment,
                )
                .await?;
            }
        }
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let Some(url) = &self.health_url else {
            return Ok(());
        };
        let client = http()?;
        let is_ready = || async {
            let response = client.get(url).send().await.ok()?;
            response.error_for_status().ok().map(drop)
        };
        let output = || match &self.kind {
            Kind::Process { process, .. } => process.lines().join("\n"),
            Kind::Sink(_) | Kind::Compose { .. } => String::new(),
        };
        eventually(START, url, is_ready)
            .await
            .with_context(|| format!("its output:\n{}", output()))
    }
}

/// Runs `docker compose` in the current directory.
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
