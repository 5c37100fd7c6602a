//! The commands of daily work. `cargo xtask` alone lists them.
#![expect(clippy::print_stderr, reason = "a tool tells a person what it does")]

mod arrows;
mod bench;
mod cargo;
mod chaos;
mod conformance;
mod e2e;
mod fuzz;
mod load;
mod queries;
mod spec;
mod stack;
mod take_home;
mod telemetry;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What telemetry costs: processor time, memory and bytes, beside a bare program.
    Bench(bench::Args),
    /// Everything CI checks before the tests: format, lints, docs, queries, API, arrows.
    Check,
    /// Kill and cut off parts of the system under load; nothing acknowledged may be lost or doubled.
    Chaos(chaos::Args),
    /// Write docs/conformance.md from the tests.
    Conformance,
    /// Run the real stack without Docker, send traffic, and look for it in every part.
    E2e(e2e::Args),
    /// Send bookapp whatever its OpenAPI document allows, and what it does not (schemathesis).
    Fuzz(fuzz::Args),
    /// Send bookapp the canonical traffic (Locust).
    Load(load::Args),
    /// The real stack without Docker: up, down, status, build, check.
    #[command(subcommand)]
    Stack(stack::Action),
    /// Write the openapi.json of both services from the code.
    Openapi,
    /// Copy telemetry-common into an empty folder, build a service around it, and see it work.
    TakeHome,
    /// Write docs/telemetry.md from crates/telemetry-registry/registry/.
    Telemetry,
    /// Write .sqlx/ from the queries, against a database of its own.
    SqlxPrepare,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Check => check(),
        Command::Chaos(args) => chaos::run(&args),
        Command::Conformance => conformance::write(),
        Command::E2e(args) => e2e::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Stack(action) => stack::run(&action),
        Command::Openapi => spec::write(),
        Command::TakeHome => take_home::run(),
        Command::Telemetry => telemetry::write(),
        Command::SqlxPrepare => queries::prepare(false),
    }
}

/// Whoever takes telemetry-common home takes one of these, or none.
const FEATURES: [&str; 9] = [
    "",
    "axum",
    "kafka",
    "prometheus",
    "reqwest",
    "sentry",
    "sqlx",
    "testing",
    "tls",
];

fn check() -> Result<()> {
    step("format");
    cargo::run(&["fmt", "--all", "--check"], &[])?;
    step("lints");
    cargo::run(
        &[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    step("each feature of telemetry-common alone");
    for feature in FEATURES {
        let alone = [
            "clippy",
            "--quiet",
            "--package",
            "telemetry-common",
            "--no-default-features",
        ];
        let features = ["--features", feature, "--", "-D", "warnings"];
        cargo::run(&[&alone[..], &features[..]].concat(), &[])?;
    }
    step("docs");
    cargo::run(
        &["doc", "--quiet", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    step("one generation of opentelemetry");
    cargo::run(&["tree", "--invert", "opentelemetry", "--depth", "0"], &[])?;
    step("arrows between crates");
    arrows::check()?;
    step("openapi.json of both services");
    spec::check()?;
    step("docs/telemetry.md");
    telemetry::check()?;
    step("docs/conformance.md");
    conformance::check()?;
    step(".sqlx/");
    queries::prepare(true)
}

fn step(name: &str) {
    eprintln!("== {name}");
}
