//! Runs Locust against a running bookapp.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// URL of bookapp.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    host: String,

    /// Number of users.
    #[arg(long, default_value_t = 10)]
    users: u32,

    /// Duration of the run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,

    /// The Locust program, with the packages of `requests/requirements.txt` [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    locust: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let status = Command::new(tools::locust(args.locust.as_ref())?)
        .args([
            "--locustfile",
            "requests/locustfile.py",
            "--headless",
            "--only-summary",
        ])
        .args([
            "--host",
            &args.host,
            "--users",
            &args.users.to_string(),
            "--spawn-rate=10",
        ])
        .arg(format!("--run-time={}s", args.seconds))
        .status()
        .context("could not run locust")?;
    ensure!(
        status.success(),
        "locust failed: more than 1 % of the requests failed"
    );
    Ok(())
}
