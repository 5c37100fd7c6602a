//! telemetry-common outside this project: copied, built, run, seen.
#![expect(clippy::print_stdout, reason = "a person reads what was seen")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testbed::{
    eventually,
    kafka::Kafka,
    postgres::Postgres,
    process::{Process, Signal, Spec},
    sink::Sink,
    system::http,
};
use tokio::runtime::Runtime;

use crate::step;

const SOON: Duration = Duration::from_secs(30);

/// The steps of the README's "Take it home", and what they must lead to.
pub(crate) fn run() -> Result<()> {
    let home = TempDir::with_prefix("take-home-")?;
    for program in ["hello", "shop"] {
        let folder = home.path().join(program);
        step(&format!(
            "{program}: telemetry-common and the program, in an empty folder"
        ));
        take(&folder, program)?;
        step(&format!("{program}: build"));
        let executable = build(&folder, program)?;
        if program == "hello" {
            lean(&folder)?;
        }
        step(&format!("{program}: one request"));
        Runtime::new()?.block_on(seen(program, &executable))?;
    }
    Ok(())
}

/// Copies the crate and the program; the root's manifest keeps versions and lints, and no other
/// member.
fn take(folder: &Path, program: &str) -> Result<()> {
    copy(
        Path::new("telemetry-common"),
        &folder.join("telemetry-common"),
    )?;
    copy(&Path::new("examples").join(program), &folder.join(program))?;
    fs::copy("Cargo.lock", folder.join("Cargo.lock"))?;
    let manifest = fs::read_to_string("Cargo.toml")?;
    let (before, members) = manifest
        .split_once("members = [")
        .context("there are members")?;
    let (_, after) = members
        .split_once(']')
        .context("the list of members ends")?;
    let ours = |line: &&str| line.contains("{ path = ") && !line.contains("\"telemetry-common\"");
    let after: Vec<_> = after.lines().filter(|line| !ours(line)).collect();
    let members = format!("members = [\"telemetry-common\", \"{program}\"]");
    fs::write(
        folder.join("Cargo.toml"),
        format!("{before}{members}{}\n", after.join("\n")),
    )?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn cargo(folder: &Path, args: &[&str]) -> Result<String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(folder);
    let output = cargo
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("could not run cargo")?;
    ensure!(output.status.success(), "cargo {} failed", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

fn build(folder: &Path, program: &str) -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| env::current_dir().unwrap_or_default().join("target"));
    let directory = format!("--target-dir={}", target.join("take-home").display());
    cargo(
        folder,
        &["build", "--quiet", "--package", program, &directory],
    )?;
    Ok(target.join("take-home/debug").join(program))
}

/// A taker without Kafka and SQL builds neither.
fn lean(folder: &Path) -> Result<()> {
    let tree = cargo(
        folder,
        &[
            "tree",
            "--package",
            "hello",
            "--prefix",
            "none",
            "--edges",
            "normal",
        ],
    )?;
    for unwanted in ["rdkafka", "sqlx", "reqwest-middleware", "prometheus"] {
        ensure!(
            !tree.contains(unwanted),
            "{unwanted} is built for HTTP alone"
        );
    }
    let crates: BTreeSet<_> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    println!("no rdkafka, no sqlx among {} crates", crates.len());
    Ok(())
}

/// Sends one request and finds its spans, its log record and its measurement.
async fn seen(program: &str, executable: &Path) -> Result<()> {
    let (postgres, kafka) = (Postgres::start().await?, Kafka::start(&["sold"], 1)?);
    let sink = Sink::start().await?;
    let spec = Spec::new(program, executable)
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .env("DATABASE_URL", postgres.empty_database().await?)
        .env("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint())
        .env("LOG_FORMAT", "text");
    let process = Process::start(&spec)?;
    let address = |line: &str| Some(line.split("listening on ").nth(1)?.trim().to_owned());
    let address = process.line(SOON, address).await?;
    let client = http()?;
    let request = match program {
        "shop" => client.post(format!("http://{address}/sell")),
        _ => client.get(format!("http://{address}/hello")),
    };
    request.send().await?.error_for_status()?;
    // Ctrl-C: the last spans leave.
    process.signal(Signal::SIGINT);
    ensure!(
        process.exited(SOON).await?.success(),
        "{program} did not end well"
    );
    let expected: &[&str] = match program {
        "shop" => &["POST /sell", "SELECT prices", "create sold", "send sold"],
        _ => &["GET /hello"],
    };
    let found = || async {
        let (spans, logs, points) = (sink.spans(), sink.logs(), sink.points());
        let spans_are_there = expected
            .iter()
            .all(|name| spans.iter().any(|span| span.name == *name));
        let one_trace = spans.iter().all(|span| span.trace_id == spans[0].trace_id);
        let logged = logs.iter().any(|log| {
            log.event == "telemetry.http.server.answered" && log.trace_id == spans[0].trace_id
        });
        let measured = points
            .iter()
            .any(|point| point.name == "http.server.request.duration");
        (spans_are_there && one_trace && logged && measured).then_some(())
    };
    eventually(SOON, "its spans, its log record and its measurement", found).await?;
    println!(
        "{program}: {} in one trace, its log record, its measurement",
        expected.join(", ")
    );
    Ok(())
}
