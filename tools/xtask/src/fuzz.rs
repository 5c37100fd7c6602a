//! A schema-driven fuzzer on bookapp's API: no 5xx, no status or body that its document lacks.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use testbed::{
    System,
    process::Spec,
    system::{Binaries, Parts},
};
use tokio::runtime::Runtime;

use crate::{step, tools};

/// What is checked of each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,unsupported_method,use_after_free";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Examples for each operation.
    #[arg(long, default_value_t = 50)]
    examples: u32,

    /// The seed of the examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The fuzzer [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    schemathesis: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = Runtime::new()?;
    step("starting the system");
    let system = runtime.block_on(async {
        // What makes things fail on purpose is not for a fuzzer.
        let guarded = |spec: Spec| spec.env("ADMIN_TOKEN", "not-the-fuzzer-s");
        let parts = Parts::start(None).await?;
        System::start_with(&Binaries::build().await?, parts, guarded).await
    })?;
    step("fuzzing");
    let status = Command::new(tools::schemathesis(args.schemathesis.as_ref())?)
        .args(["run", "bookapp/openapi.json", "--url", &system.bookapp.url])
        .args([
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing,stateful",
        ])
        .args([
            "--max-examples",
            &args.examples.to_string(),
            "--seed",
            &args.seed.to_string(),
        ])
        .args(["--request-timeout", "10", "--no-color"])
        .status()
        .context("could not run schemathesis")?;
    ensure!(status.success(), "the fuzzer found something");
    Ok(())
}
