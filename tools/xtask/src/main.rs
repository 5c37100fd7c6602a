//! The development commands of this repository. `cargo xtask` lists them.
#![expect(clippy::print_stderr, reason = "the commands print their progress")]

mod arrows;
mod bench;
mod cargo;
mod chaos;
mod configuration;
mod conformance;
mod e2e;
mod fuzz;
mod generated;
mod kubernetes;
mod load;
mod paths;
mod phrases;
mod public_api;
mod queries;
mod scale_model;
mod spec;
mod stack;
mod take_home;
mod telemetry;
mod tiers;
mod tokio_console;
mod tools;

use std::path::Path;

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
    /// Measure the cost of telemetry against a baseline: CPU time, memory and bytes.
    Bench(bench::Args),
    /// Run all checks that CI runs before the tests: format, lints, docs, queries, API,
    /// dependencies.
    Check,
    /// Inject faults under load; no acknowledged book may be lost or duplicated.
    Chaos(chaos::Args),
    /// Write docs/conformance.md from the tests.
    Conformance,
    /// Run the real stack, send traffic, and check its telemetry in every component.
    E2e(e2e::Args),
    /// Fuzz bookapp's API with valid and invalid requests from its OpenAPI document (schemathesis).
    Fuzz(fuzz::Args),
    /// Check the Kubernetes manifests, by schemas and policies or on a real API server.
    #[command(subcommand)]
    Kubernetes(kubernetes::Action),
    /// Send the standard traffic to bookapp (Locust).
    Load(load::Args),
    /// Print what 1,000 and 100,000 requests a second need, and write it to docs/scaling.md.
    ScaleModel,
    /// Manage the native stack, which runs without Docker.
    #[command(subcommand)]
    Stack(stack::Action),
    /// Write the openapi.json of both services.
    Openapi,
    /// Copy telemetry-common into an empty folder, build an example with it, and check its
    /// telemetry.
    TakeHome,
    /// Run the tests that need a real Kafka broker.
    Kafka(tools::Programs),
    /// Take the pictures in docs/pictures, in headless Chromium.
    Pictures(tools::Programs),
    /// Write telemetry-common/public-api.txt from the code.
    PublicApi,
    /// Install what the tests need, and run all of them.
    Test,
    /// Write the tables of environment variables in docs/configuration.md.
    Configuration,
    /// Write docs/telemetry.md from crates/telemetry-registry/registry/.
    Telemetry,
    /// Compare an agent and gateways with one collector, and count what a change of gateways loses.
    Tiers(tiers::Args),
    /// Build both services with tokio-console, and list their tasks as it does.
    TokioConsole,
    /// Write .sqlx/ from the queries, with a temporary database.
    SqlxPrepare,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Check => check(),
        Command::Chaos(args) => chaos::run(&args),
        Command::Configuration => configuration::write(),
        Command::Conformance => conformance::write(),
        Command::E2e(args) => e2e::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Kafka(programs) => kafka(&programs),
        Command::Kubernetes(action) => kubernetes::run(&action),
        Command::Load(args) => load::run(&args),
        Command::ScaleModel => scale_model::write(),
        Command::Stack(action) => stack::run(&action),
        Command::Openapi => spec::write(),
        Command::Pictures(programs) => pictures(&programs),
        Command::PublicApi => public_api::write(),
        Command::TakeHome => take_home::run(),
        Command::Telemetry => telemetry::write(),
        Command::Test => test(),
        Command::Tiers(args) => tiers::run(&args),
        Command::TokioConsole => tokio_console::run(),
        Command::SqlxPrepare => queries::prepare(false),
    }
}

/// The features of telemetry-common. `check` lints the crate with none, with each feature separately,
/// and with common combinations.
const FEATURES: [&str; 13] = [
    "",
    "axum",
    "clap",
    "grpc",
    "kafka",
    "prometheus",
    "reqwest",
    "sentry",
    "sqlx",
    "testing",
    "tls",
    "axum,reqwest",
    "axum,sqlx,kafka,clap",
];

fn test() -> Result<()> {
    step("installing missing Debian packages");
    tools::execute(Path::new(".ci/install-packages"), &[])?;
    step("tests");
    cargo::run(&["test", "--workspace"], &[])
}

fn pictures(programs: &tools::Programs) -> Result<()> {
    let locust = programs.locust()?.display().to_string();
    let bugsink = programs.bugsink()?.display().to_string();
    step("pictures");
    let take = [
        "test",
        "--package",
        "demo",
        "--test",
        "system",
        "pictures",
        "--",
        "--ignored",
    ];
    cargo::run(&take, &[("LOCUST", &locust), ("BUGSINK", &bugsink)])
}

fn kafka(programs: &tools::Programs) -> Result<()> {
    let jars = programs.kafka_jars()?.display().to_string();
    step("tests with a real Kafka");
    let tests = [
        "test",
        "--package",
        "backend",
        "--features",
        "kafka-tls",
        "--test",
        "kafka",
        "--",
        "--ignored",
    ];
    cargo::run(&tests, &[("KAFKA_JARS", &jars)])
}

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
    step("get-postgres, a workspace of its own");
    let own = ["--manifest-path", "tools/get-postgres/Cargo.toml"];
    cargo::run(&[&["fmt", "--check"][..], &own].concat(), &[])?;
    let lints = ["--quiet", "--all-targets", "--", "-D", "warnings"];
    cargo::run(&[&["clippy"][..], &own, &lints].concat(), &[])?;
    step("each feature of telemetry-common separately");
    for feature in FEATURES {
        let clippy = [
            "clippy",
            "--quiet",
            "--package",
            "telemetry-common",
            "--no-default-features",
        ];
        let features = ["--features", feature, "--", "-D", "warnings"];
        cargo::run(&[&clippy[..], &features[..]].concat(), &[])?;
    }
    step("docs");
    cargo::run(
        &["doc", "--quiet", "--workspace", "--no-deps"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    step("one version of opentelemetry");
    cargo::run(&["tree", "--invert", "opentelemetry", "--depth", "0"], &[])?;
    step("licences, bans and sources of dependencies");
    let path = tools::path()?;
    cargo::run(
        &["deny", "check", "licenses", "bans", "sources"],
        &[("PATH", &path)],
    )?;
    let rules = [
        "--config",
        "deny.toml",
        "check",
        "--allow",
        "unused-wrapper",
    ];
    let rules = [
        &["deny"][..],
        &own,
        &rules,
        &["licenses", "bans", "sources"],
    ];
    cargo::run(&rules.concat(), &[("PATH", &path)])?;
    step("dependencies between crates");
    arrows::check()?;
    step("phrases and paths in documents");
    phrases::check()?;
    paths::check()?;
    step("openapi.json of both services");
    spec::check()?;
    step("docs/telemetry.md, docs/configuration.md, docs/scaling.md");
    telemetry::check()?;
    configuration::check()?;
    scale_model::check()?;
    step("public API of telemetry-common");
    public_api::check()?;
    step("docs/conformance.md");
    conformance::check()?;
    step(".sqlx/");
    queries::prepare(true)
}

fn step(name: &str) {
    eprintln!("== {name}");
}
