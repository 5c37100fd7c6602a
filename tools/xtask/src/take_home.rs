//! Checks that telemetry-common works outside this repository: packages it, builds an example with
//! the package in an empty folder, runs it and checks its telemetry.
#![expect(clippy::print_stdout, reason = "the command prints what it found")]

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
    sink::{Log, Sink, Span},
    system::http,
};
use tokio::runtime::Runtime;

use crate::step;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Uses the crate as the README's section on using it elsewhere describes, and checks the result.
pub(crate) fn run() -> Result<()> {
    let home = TempDir::with_prefix("take-home-")?;
    step("packaging telemetry-common");
    let package = package(home.path())?;
    for program in ["hello", "shop", "grpc", "worker"] {
        let folder = home.path().join(program);
        step(&format!(
            "{program}: the package and the program, in an empty folder"
        ));
        copy_crates(&folder, &package, program)?;
        step(&format!("{program}: build"));
        let executable = build(&folder, program)?;
        if program == "hello" {
            check_dependencies(&folder)?;
        }
        step(&format!("{program}: run"));
        let runtime = Runtime::new()?;
        match program {
            "grpc" => runtime.block_on(check_calls(&executable))?,
            "worker" => runtime.block_on(check_jobs(&executable))?,
            _ => runtime.block_on(check_request(program, &executable))?,
        }
    }
    Ok(())
}

/// Packages telemetry-common. Returns the folder of the unpacked package.
fn package(home: &Path) -> Result<PathBuf> {
    let directory = home.join("target");
    let directory = format!("--target-dir={}", directory.display());
    let crate_only = [
        "--package",
        "telemetry-common",
        "--no-verify",
        "--allow-dirty",
    ];
    cargo(
        Path::new("."),
        &[&["package", "--quiet", &directory], &crate_only[..]].concat(),
    )?;
    let name = concat!("telemetry-common-", env!("CARGO_PKG_VERSION"));
    let archive = home.join("target/package").join(format!("{name}.crate"));
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(home);
    ensure!(tar.status()?.success(), "could not unpack the package");
    Ok(home.join(name))
}

/// Copies the package and the example. The copied workspace manifest keeps versions and lints, and
/// has no other members.
fn copy_crates(folder: &Path, package: &Path, program: &str) -> Result<()> {
    copy(package, &folder.join("telemetry-common"))?;
    copy(&Path::new("examples").join(program), &folder.join(program))?;
    fs::copy("Cargo.lock", folder.join("Cargo.lock"))?;
    let manifest = fs::read_to_string("Cargo.toml")?;
    let (before, members) = manifest
        .split_once("members = [")
        .context("Cargo.toml has no list of members")?;
    let (_, after) = members
        .split_once(']')
        .context("the list of members in Cargo.toml does not end")?;
    let is_other_crate = |line: &&str| {
        let is_crate = line.contains("{ path = ") && !line.contains("\"telemetry-common\"");
        is_crate || line.starts_with("exclude = ")
    };
    let after: Vec<_> = after.lines().filter(|line| !is_other_crate(line)).collect();
    let members = format!("members = [\"{program}\"]\nexclude = [\"telemetry-common\"]");
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
    let mut cargo = testbed::system::cargo();
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

/// Checks that a user of the crate who needs neither Kafka nor SQL does not build them.
fn check_dependencies(folder: &Path) -> Result<()> {
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
            "{unwanted} is a dependency of an HTTP-only example"
        );
    }
    let crates: BTreeSet<_> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    println!("no rdkafka and no sqlx among {} crates", crates.len());
    Ok(())
}

/// Sends one request and checks its spans, its log record and its metric.
async fn check_request(program: &str, executable: &Path) -> Result<()> {
    let (postgres, kafka) = (Postgres::start().await?, Kafka::start(&["sold"])?);
    let sink = Sink::start().await?;
    let spec = Spec::new(program, executable);
    let spec = match program {
        "hello" => spec.arg("127.0.0.1:0"),
        _ => spec,
    };
    let spec = exporting(spec, &sink)
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .env("DATABASE_URL", postgres.empty_database().await?)
        .env("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers());
    let (process, address) = listening(&spec).await?;
    let client = http()?;
    let request = match program {
        "shop" => client.post(format!("http://{address}/sell")),
        _ => client.get(format!("http://{address}/hello")),
    };
    request.send().await?.error_for_status()?;
    stop(process).await?;
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
            log.event == "telemetry_common.http.server.responded"
                && log.trace_id == spans[0].trace_id
        });
        let measured = points
            .iter()
            .any(|point| point.name == "http.server.request.duration");
        (spans_are_there && one_trace && logged && measured).then_some(())
    };
    eventually(
        TIMEOUT,
        "spans, log record and metric of the request",
        found,
    )
    .await?;
    println!(
        "{program}: {} in one trace, with a log record and a metric",
        expected.join(", ")
    );
    Ok(())
}

/// Buys once. Checks that client, shop and stock are in one trace, with log records and metrics.
async fn check_calls(executable: &Path) -> Result<()> {
    let sink = Sink::start().await?;
    let spec = |mode: &str| exporting(Spec::new(mode, executable), &sink).arg(mode);
    let (stock, address) = listening(&spec("stock").arg("127.0.0.1:0")).await?;
    let url = format!("http://{address}");
    let (shop, address) = listening(&spec("shop").arg("127.0.0.1:0").arg(url)).await?;
    let buy = Process::start(&spec("buy").arg(format!("http://{address}")))?;
    ensure!(
        buy.wait(TIMEOUT).await?.success(),
        "buy did not exit with 0"
    );
    stop(shop).await?;
    stop(stock).await?;
    let calls = ["shop.Shop/Sell", "shop.Stock/Reserve", "shop.Stock/Watch"];
    let found = || async {
        let (spans, logs, points) = (sink.spans(), sink.logs(), sink.points());
        let trace = &spans.first()?.trace_id;
        let has_both = |name: &&str| {
            let of_kind = |kind| move |span: &Span| span.kind == kind;
            let named = || spans.iter().filter(|span| span.name == **name);
            named().any(of_kind("CLIENT")) && named().any(of_kind("SERVER"))
        };
        let are_logged = logs.iter().filter(|log| log.trace_id == *trace);
        let are_logged =
            are_logged.filter(|log| log.event == "telemetry_common.rpc.server.responded");
        let is_measured = |name| points.iter().any(|point| point.name == name);
        let complete = calls.iter().all(has_both)
            && spans.iter().all(|span| span.trace_id == *trace)
            && are_logged.count() == calls.len()
            && is_measured("rpc.server.call.duration")
            && is_measured("rpc.client.call.duration");
        complete.then_some(())
    };
    eventually(
        TIMEOUT,
        "spans, log records and metrics of the calls",
        found,
    )
    .await?;
    println!(
        "grpc: {} in one trace, with log records and metrics",
        calls.join(", ")
    );
    Ok(())
}

/// Lets the worker run twice. Checks the traces of its runs, and the links of its background work.
async fn check_jobs(executable: &Path) -> Result<()> {
    let sink = Sink::start().await?;
    let spec = exporting(Spec::new("worker", executable), &sink).arg("0.1");
    let process = Process::start(&spec.env("OTEL_BSP_SCHEDULE_DELAY", "100"))?;
    let runs = || async { (count(&sink.spans(), "clean up") >= 2).then_some(()) };
    eventually(TIMEOUT, "two runs of the worker", runs).await?;
    stop(process).await?;
    let found = || async {
        let (spans, logs) = (sink.spans(), sink.logs());
        let named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
        let is_complete = |run: &Span| {
            let own =
                named("clean shelf").filter(|shelf| shelf.parent_id.as_ref() == Some(&run.span_id));
            let linked = |rebuild: &Span| {
                rebuild.trace_id != run.trace_id
                    && rebuild.links.iter().any(|(_, span)| *span == run.span_id)
            };
            let logged = logs.iter().filter(|log| log.trace_id == run.trace_id);
            let has_id = |log: &&Log| log.attributes.contains_key("telemetry_common.request.id");
            let logged = logged.filter(has_id).count();
            own.count() == 3 && named("rebuild index").any(linked) && logged == 4
        };
        named("clean up").all(is_complete).then_some(())
    };
    eventually(TIMEOUT, "complete runs, with their background work", found).await?;
    println!("worker: three shelves in each run, and linked background work");
    Ok(())
}

/// Adds the settings of an export to `sink`.
fn exporting(spec: Spec, sink: &Sink) -> Spec {
    spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint())
        .env("LOG_FORMAT", "text")
}

/// Starts a server. Returns its process and the address on which it listens.
async fn listening(spec: &Spec) -> Result<(Process, String)> {
    let process = Process::start(spec)?;
    let address = |line: &str| Some(line.split("listening on ").nth(1)?.trim().to_owned());
    let address = process.line(TIMEOUT, address).await?;
    Ok((process, address))
}

/// Stops a process with SIGINT, which flushes the last spans.
async fn stop(process: Process) -> Result<()> {
    process.signal(Signal::SIGINT);
    let status = process.wait(TIMEOUT).await?;
    ensure!(status.success(), "the program ended with {status}");
    Ok(())
}

fn count(spans: &[Span], name: &str) -> usize {
    spans.iter().filter(|span| span.name == name).count()
}
