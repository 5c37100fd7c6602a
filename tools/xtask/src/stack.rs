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
    stack::{ALERTMANAGER, BUGSINK, LOKI, PROMETHEUS, native::COLLECTOR_HEALTH},
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
    Up {
        #[command(flatten)]
        programs: Programs,

        /// The factor by which the windows and intervals of alerting are shorter. With 20, an objective
        /// raises its alert after seconds instead of minutes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
        speed: u64,
    },
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
    /// Write grafana/dashboards/ from grafana/source/ and docs/runbooks/.
    Dashboards(Programs),
    /// Write stack/prometheus/rules/objectives/ from stack/slo/objectives/, with Sloth.
    Rules,
}

/// The generated dashboards. They are committed so that docker compose needs no Python.
const DASHBOARDS: &str = "grafana/dashboards";
/// Their folder of runbooks.
const RUNBOOKS: &str = "runbooks";

/// The generated rules of the objectives. They are committed so that docker compose needs no Go.
const RULES: &str = "stack/prometheus/rules/objectives";

pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up { programs, speed } => up(programs, *speed),
        Action::Down => down(),
        Action::Status => status(),
        Action::Build { folder } => build_stack(folder),
        Action::Check(programs) => check(programs),
        Action::Dashboards(programs) => dashboards(programs, Path::new(DASHBOARDS)),
        Action::Rules => rules(Path::new(RULES)),
    }
}

/// Returns the file that contains the process id of the running stack.
fn pid_file() -> PathBuf {
    env::temp_dir().join("bookapp-stack.pid")
}

fn up(programs: &Programs, speed: u64) -> Result<()> {
    Runtime::new()?.block_on(async {
        step("starting the stack");
        let stack = Stack::native(&programs.native(speed)?).await?;
        fs::write(pid_file(), process::id().to_string())?;
        println!("bookapp     {}", stack.bookapp);
        println!("backend     {}", stack.backend);
        println!("collector   {COLLECTOR_HEALTH}");
        println!("Prometheus  {PROMETHEUS}");
        println!("Alertmanager {ALERTMANAGER}");
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
        ("Alertmanager", format!("{ALERTMANAGER}/-/ready")),
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

/// Generates the rules of the objectives into `folder`.
fn rules(folder: &Path) -> Result<()> {
    let mut generate = Command::new("go");
    generate.args(["run", "github.com/slok/sloth/cmd/sloth@v0.16.0", "generate"]);
    generate.args(["--no-log", "--input=stack/slo/objectives"]);
    generate.args([
        "--slo-period-windows-path=stack/slo/windows",
        "--default-slo-period=7d",
    ]);
    generate.arg(format!("--out={}", folder.display()));
    run_command(&mut generate)
}

/// Fails if the files of the `committed` folder are not those of the `generated` one.
fn compare(committed: &str, generated: &Path, command: &str) -> Result<()> {
    let committed = Path::new(committed);
    for file in fs::read_dir(committed)?.chain(fs::read_dir(generated)?) {
        let file = file?;
        let name = file.file_name();
        let read = |folder: &Path| fs::read_to_string(folder.join(&name)).unwrap_or_default();
        ensure!(
            file.file_type()?.is_dir() || read(committed) == read(generated),
            "{} is stale: run `{command}`",
            name.display()
        );
    }
    Ok(())
}

fn check(programs: &Programs) -> Result<()> {
    let binaries = programs.stack_bin()?;
    let binary = |name: &str| binaries.join(name);
    step("grafana/dashboards/");
    let built = tempfile::tempdir()?;
    dashboards(programs, built.path())?;
    let command = "cargo xtask stack dashboards";
    compare(DASHBOARDS, built.path(), command)?;
    let runbooks = built.path().join(RUNBOOKS);
    compare(&format!("{DASHBOARDS}/{RUNBOOKS}"), &runbooks, command)?;
    step("stack/slo/");
    let generated = tempfile::tempdir()?;
    rules(generated.path())?;
    compare(RULES, generated.path(), "cargo xtask stack rules")?;
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
    for files in [
        &["base", "core", "infrastructure", "vendor"][..],
        &["base", "core", "gateway"],
        &["base", "agent"],
        &["base", "agent", "infrastructure"],
        &["base", "infrastructure"],
        &["containers", "console"],
    ] {
        let mut validate = Command::new(binary("otelcol-bookapp"));
        validate.arg("validate");
        let paths = files
            .iter()
            .map(|file| format!("--config=otel-collector/{file}.yaml"));
        validate.args(paths);
        validate.env("REDACTION_HMAC_KEY", "0123456789abcdef0123456789abcdef");
        validate.env("PG_MONITOR_PASSWORD", "monitor");
        validate.env("VENDOR_OTLP_ENDPOINT", "https://vendor.example");
        validate.env("VENDOR_OTLP_HEADERS", "{x-api-key: key}");
        validate.env("GATEWAY_HOST", "otel-gateway");
        validate.env("OTELCOL_INSTANCE", "otel-gateway-1");
        run_command(&mut validate)?;
    }
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
    let mut test = Command::new(binary("promtool"));
    test.args(["test", "rules"]);
    for file in fs::read_dir("stack/prometheus/tests")? {
        test.arg(file?.path());
    }
    run_command(&mut test)?;
    step("stack/alertmanager/");
    alertmanager(&binary("amtool"))?;
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

/// Checks the configuration of Alertmanager, where each kind of alert goes, and the text of an alert.
fn alertmanager(amtool: &Path) -> Result<()> {
    let config = "stack/alertmanager/alertmanager.yaml";
    execute(amtool, &["check-config", config])?;
    for (severity, receiver) in [
        ("page", "page"),
        ("ticket", "ticket"),
        ("none", "heartbeat"),
    ] {
        let expected = format!("--verify.receivers={receiver}");
        let config = format!("--config.file={config}");
        let labels = format!("severity={severity}");
        execute(
            amtool,
            &["config", "routes", "test", &config, &expected, &labels],
        )?;
    }
    let data = "stack/alertmanager/tests/alert.json";
    let rendered = Command::new(amtool)
        .args([
            "template",
            "render",
            "--template.glob=stack/alertmanager/*.tmpl",
        ])
        .arg(format!("--template.data={data}"))
        .arg(r#"--template.text={{ template "bookapp.text" . }}"#)
        .output()?;
    ensure!(rendered.status.success(), "{data}: {rendered:?}");
    let rendered = String::from_utf8(rendered.stdout)?;
    let expected = fs::read_to_string("stack/alertmanager/tests/alert.txt")?;
    ensure!(rendered == expected, "the text of an alert is:\n{rendered}");
    Ok(())
}
