//! Runs a schema-driven fuzzer on bookapp's API. The API must not respond 5xx, or with a status or
//! body that its OpenAPI document does not describe.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use testbed::{
    System,
    process::Spec,
    system::{Binaries, Dependencies},
};
use tokio::runtime::Runtime;

use crate::{step, tools};

/// The checks of each response.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,unsupported_method,use_after_free";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of examples for each operation.
    #[arg(long, default_value_t = 50)]
    examples: u32,

    /// Seed of the examples.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The schemathesis program [default: installed].
    #[arg(long, env, value_name = "PROGRAM")]
    schemathesis: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = Runtime::new()?;
    step("starting the system");
    let system = runtime.block_on(async {
        // The fuzzer must not inject faults, so protect the admin routes with a token.
        let with_token = |spec: Spec| spec.env("ADMIN_TOKEN", "not-the-fuzzer-s");
        let dependencies = Dependencies::start(None).await?;
        System::start_with(&Binaries::build().await?, dependencies, with_token).await
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
    ensure!(status.success(), "schemathesis reports failures");
    Ok(())
}
