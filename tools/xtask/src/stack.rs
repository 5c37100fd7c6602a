//! Manages the native stack: the components and configuration files of docker compose, as
//! processes.
#![expect(
    clippy::print_stdout,
    reason = "the command prints the URLs of the components"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context, Result, ensure};
use e2e::{
    Stack,
    stack::{BUGSINK, LOKI, PROMETHEUS, native::COLLECTOR_HEALTH},
};
use testbed::system::http;
use tokio::runtime::Runtime;

use crate::{
    step,
    tools::{Programs, build_stack, execute, run_command},
};

#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Start the stack and run until Ctrl-C or `down`.
    Up(Programs),
    /// Stop the running stack.
    Down,
    /// Print which components are ready.
    Status,
    /// Build the collector, Prometheus and Loki into a folder for `STACK_BIN`.
    Build {
        /// The target folder.
        folder: PathBuf,
    },
    /// Validate every configuration file with its own program.
    Check(Programs),
    /// Write grafana/dashboards/ from grafana/source/.
    Dashboards(Programs),
}

/// The generated dashboards. They are committed so that docker compose needs no Python.
const DASHBOARDS: &str = "grafana/dashboards";

pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up(programs) => up(programs),
        Action::Down => down(),
        Action::Status => status(),
        Action::Build { folder } => build_stack(folder),
        Action::Check(programs) => check(programs),
        Action::Dashboards(programs) => dashboards(programs, Path::new(DASHBOARDS)),
    }
}

/// Returns the file that contains the process id of the running stack.
fn pid_file() -> PathBuf {
    env::temp_dir().join("bookapp-stack.pid")
}

fn up(programs: &Programs) -> Result<()> {
    Runtime::new()?.block_on(async {
        step("starting the stack");
        let stack = Stack::native(&programs.native()?).await?;
        fs::write(pid_file(), process::id().to_string())?;
        println!("bookapp     {}", stack.bookapp);
        println!("backend     {}", stack.backend);
        println!("collector   {COLLECTOR_HEALTH}");
        println!("Prometheus  {PROMETHEUS}");
        println!("Loki        {LOKI}");
        println!("Bugsink     {BUGSINK} (admin@example.org, admin)");
        println!("traces      {}/api/traces/<id>", stack.traces_url);
        println!("database    {}", stack.database_url);
        println!("running until Ctrl-C or `cargo xtask stack down`");
        tokio::signal::ctrl_c().await?;
        fs::remove_file(pid_file())?;
        Ok(())
    })
}

fn down() -> Result<()> {
    let pid = fs::read_to_string(pid_file()).context("no stack is running")?;
    execute(Path::new("kill"), &["-INT", pid.trim()])
}

fn status() -> Result<()> {
    let runtime = Runtime::new()?;
    let client = http()?;
    for (part, url) in [
        ("collector", COLLECTOR_HEALTH.to_owned()),
        ("Prometheus", format!("{PROMETHEUS}/-/ready")),
        ("Loki", format!("{LOKI}/ready")),
        ("Bugsink", format!("{BUGSINK}/health/ready")),
    ] {
        let response = runtime.block_on(client.get(&url).send());
        let is_ready = response.is_ok_and(|response| response.status().is_success());
        println!(
            "{part:<11} {url} {}",
            if is_ready { "ready" } else { "not ready" }
        );
    }
    Ok(())
}

/// Generates the dashboards into `folder`.
fn dashboards(programs: &Programs, folder: &Path) -> Result<()> {
    let mut build = Command::new(programs.dashboards_python()?);
    build.arg("-B").arg("grafana/source").arg(folder);
    run_command(&mut build)
}

fn check(programs: &Programs) -> Result<()> {
    let binaries = programs.stack_bin()?;
    let binary = |name: &str| binaries.join(name);
    step("grafana/dashboards/");
    let built = tempfile::tempdir()?;
    dashboards(programs, built.path())?;
    for file in fs::read_dir(DASHBOARDS)?.chain(fs::read_dir(built.path())?) {
        let name = file?.file_name();
        let read = |folder: &Path| fs::read_to_string(folder.join(&name)).unwrap_or_default();
        ensure!(
            read(Path::new(DASHBOARDS)) == read(built.path()),
            "{} is stale: run `cargo xtask stack dashboards`",
            name.display()
        );
    }
    step("docker-compose.yaml");
    execute(
        &programs.docker_compose()?,
        &["--profile", "*", "config", "--quiet"],
    )?;
    step("Dockerfiles");
    execute(
        &programs.hadolint()?,
        &["Dockerfile", "requests/Dockerfile"],
    )?;
    step(".github/workflows/");
    execute(
        Path::new("go"),
        &["run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"],
    )?;
    step("otel-collector/");
    let files = [
        "--config=otel-collector/core.yaml",
        "--config=otel-collector/infrastructure.yaml",
        "--config=otel-collector/vendor.yaml",
    ];
    let mut validate = Command::new(binary("otelcol-bookapp"));
    validate.arg("validate").args(files);
    validate.env("REDACTION_HMAC_KEY", "0123456789abcdef0123456789abcdef");
    validate.env("PG_MONITOR_PASSWORD", "monitor");
    validate.env("VENDOR_OTLP_ENDPOINT", "https://vendor.example");
    validate.env("VENDOR_OTLP_HEADERS", "{x-api-key: key}");
    run_command(&mut validate)?;
    execute(
        &binary("otelcol-bookapp"),
        &[
            "validate",
            "--config=otel-collector/containers.yaml",
            "--config=otel-collector/console.yaml",
        ],
    )?;
    step("stack/prometheus/");
    execute(
        &binary("promtool"),
        &[
            "check",
            "config",
            "--lint=all",
            "stack/prometheus/prometheus.yaml",
        ],
    )?;
    execute(
        &binary("promtool"),
        &["test", "rules", "stack/prometheus/tests/telemetry.yaml"],
    )?;
    step("stack/loki/");
    let verify = [
        "-config.file=stack/loki/loki.yaml",
        "-config.expand-env=true",
        "-verify-config",
    ];
    execute(&binary("loki"), &verify)?;
    if let Some(tempo) = &programs.tempo_bin {
        step("stack/tempo/");
        let verify = [
            "-config.file=stack/tempo/tempo.yaml",
            "-config.expand-env=true",
            "-config.verify=true",
        ];
        execute(tempo, &verify)?;
    }
    Ok(())
}
