//! The price of a `GET /books/1` in instructions, which the machine's other work does not change:
//! bookapp under callgrind, with telemetry off, at 1 % and at 100 %. Time would be noise in CI.
#![expect(clippy::print_stdout, reason = "the table is what the command answers")]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::tempdir;
use testbed::system::{Parts, Service, build, http};
use testbed::{eventually, postgres::Postgres, process::Spec, sink::Sink};
use tokio::time::sleep;

use super::{
    load::{Call, closed},
    report::real,
    setting::{FULL, OFF, PERCENT, Setting},
};
use crate::step;

const REQUESTS: usize = 400;
/// For how long it is watched while nobody asks.
const IDLE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_mins(2);

/// What each setting may take, by what it takes without telemetry: a little above what it took.
const BUDGETS: [(&Setting, f64); 2] = [(PERCENT, 2.35), (FULL, 3.0)];

// proves: N11
pub(super) async fn hold() -> Result<()> {
    step("building");
    let binaries = build(&["bookapp"], "release")?;
    let bookapp = binaries.get("bookapp").context("no bookapp")?;
    let postgres = Postgres::start().await?;
    step("telemetry off");
    let off = price(OFF, bookapp, &postgres).await?;
    println!("| telemetry | instructions a request | × off | budget |\n|---|---|---|---|");
    println!("| {} | {off:.0} | 1.00 | |", OFF.name);
    let mut over = Vec::new();
    for (setting, budget) in BUDGETS {
        step(setting.name);
        let price = price(setting, bookapp, &postgres).await?;
        let ratio = price / off;
        println!("| {} | {price:.0} | {ratio:.2} | {budget} |", setting.name);
        if ratio > budget {
            over.push(setting.name);
        }
    }
    ensure!(over.is_empty(), "over the budget: {}", over.join(", "));
    Ok(())
}

/// Instructions that a request takes, all that it leaves to export included, and what the process
/// executes anyway left out.
async fn price(setting: &Setting, bookapp: &Path, postgres: &Postgres) -> Result<f64> {
    let (parts, sink, folder) = (Parts::on(postgres).await?, Sink::start().await?, tempdir()?);
    let counts = folder.path().join("counts");
    let spec = Spec::new("bookapp", "valgrind")
        .arg("--tool=callgrind")
        .arg("--quiet")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(bookapp);
    let told = parts.spec("bookapp", bookapp, &sink);
    let spec = Spec {
        env: told.env,
        ..spec
    };
    let given = setting.env.iter();
    let spec = given.fold(spec, |spec, (name, value)| spec.env(name, *value));
    let spec = spec
        .env("OTEL_METRIC_EXPORT_INTERVAL", "60000")
        .env("RUST_LOG", "warn");
    let service = Service::start(&spec).await?;
    service.ready().await?;
    let client = http()?;
    closed(&client, &service.url, Call::Get, REQUESTS, 4).await?; // warm
    let counter = Counter {
        process: service.process.id(),
        counts: &counts,
    };
    counter.zero()?;
    sleep(IDLE).await;
    let idle = counter.take(1)? / IDLE.as_secs_f64();
    let before = (sink.logs().len(), servers(&sink));
    counter.zero()?;
    let started = Instant::now();
    closed(&client, &service.url, Call::Get, REQUESTS, 4).await?;
    if setting.name != OFF.name {
        // The access log is not sampled.
        let logged = || async { (sink.logs().len() >= before.0 + REQUESTS).then_some(()) };
        eventually(PATIENCE, "all is logged", logged).await?;
    }
    if setting.name == FULL.name {
        let traced = || async { (servers(&sink) >= before.1 + REQUESTS).then_some(()) };
        eventually(PATIENCE, "all is traced", traced).await?;
    }
    let taken = counter.take(2)? - idle * started.elapsed().as_secs_f64();
    Ok(taken / real(REQUESTS))
}

/// How many requests are traced so far.
fn servers(sink: &Sink) -> usize {
    let spans = sink.spans();
    spans.iter().filter(|span| span.kind == "SERVER").count()
}

/// callgrind's counters of a process.
struct Counter<'c> {
    process: i32,
    counts: &'c Path,
}

impl Counter<'_> {
    fn zero(&self) -> Result<()> {
        self.control("--zero")
    }

    /// What was counted since; it is the `nth` time.
    fn take(&self, nth: u32) -> Result<f64> {
        self.control("--dump")?;
        let file = format!("{}.{nth}", self.counts.display());
        let dump = fs::read_to_string(&file).context("callgrind wrote nothing")?;
        let totals = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(totals.context("no totals")?.trim().parse()?)
    }

    fn control(&self, what: &str) -> Result<()> {
        let mut control = Command::new("callgrind_control");
        let output = control.arg(what).arg(self.process.to_string()).output()?;
        ensure!(output.status.success(), "callgrind_control {what} failed");
        Ok(())
    }
}
