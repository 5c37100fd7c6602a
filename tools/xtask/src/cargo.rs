//! Runs cargo.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use testbed::system::cargo;

/// Runs cargo with these arguments and environment variables. Cargo inherits stdout and stderr.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let mut command = cargo();
    command.args(args).envs(env.iter().copied());
    let status = command.status().context("could not run cargo")?;
    ensure!(status.success(), "`cargo {}` failed", args.join(" "));
    Ok(())
}

/// Runs cargo with these arguments and returns its stdout.
pub(crate) fn output(args: &[&str]) -> Result<String> {
    let mut command = cargo();
    command.args(args).stderr(Stdio::inherit());
    let output = command.output().context("could not run cargo")?;
    ensure!(output.status.success(), "`cargo {}` failed", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: R7
    #[test]
    fn one_generation_of_opentelemetry_is_in_the_tree() {
        // cargo fails if the name matches several versions.
        let tree = output(&["tree", "--invert", "opentelemetry", "--depth", "0"]).unwrap();
        assert!(tree.starts_with("opentelemetry v"), "{tree}");
    }
}
