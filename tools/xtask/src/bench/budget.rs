//! The instruction budget of `GET /books/1`: runs bookapp under callgrind with telemetry off, with
//! 1 % sampling, with 100 % sampling, and with the fields of spans on console lines. Other load on the machine changes CPU times, but not
//! instruction counts.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::tempdir;
use testbed::system::{Dependencies, Service, build, http};
use testbed::{eventually, number::to_f64, postgres::Postgres, process::Spec, sink::Sink};
use tokio::time::sleep;

use super::{
    load::{Call, closed_loop},
    setting::{FULL, OFF, PERCENT, SPAN_FIELDS, Setting, THINNED},
};
use crate::step;

const REQUESTS: usize = 400;
/// The time for which the idle process is measured.
const IDLE: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_mins(2);
/// The time within which everything is exported under callgrind: the queues are exported every second.
const EXPORT: Duration = Duration::from_secs(4);

/// The maximum number of instructions for each setting, relative to telemetry off: the measured ones plus
/// 5 %.
const BUDGETS: [(&Setting, f64); 3] = [(PERCENT, 1.47), (THINNED, 1.22), (FULL, 1.96)];

/// The maximum number of instructions with the fields of spans, relative to the same setting
/// without them: for each of [`SPAN_FIELDS`]. Two runs of one setting differ by up to 1 %.
const SPAN_FIELDS_BUDGETS: [f64; 2] = [1.03, 1.09];

/// Prints the counts. Fails if one is over its budget.
///
/// It stores the callgrind profile of each setting in the folder `profiles`, if there is one.
// proves: N11
pub(super) async fn check(profiles: Option<&Path>) -> Result<()> {
    step("building");
    let binaries = build(&["bookapp"], &[], "release")?;
    let bookapp = binaries
        .get("bookapp")
        .context("cargo built no executable bookapp")?;
    let postgres = Postgres::start().await?;
    let bookapp = Bookapp {
        program: bookapp,
        postgres: &postgres,
        profiles,
    };
    step("telemetry off");
    let off = bookapp.instructions(OFF).await?;
    println!("| telemetry | instructions/request | × off | budget |\n|---|---|---|---|");
    println!("| {} | {off:.0} | 1.00 | |", OFF.name);
    let mut over = Vec::new();
    for (setting, budget) in BUDGETS {
        step(setting.name);
        let count = bookapp.instructions(setting).await?;
        let ratio = count / off;
        println!("| {} | {count:.0} | {ratio:.2} | {budget} |", setting.name);
        if ratio > budget {
            over.push(setting.name);
        }
    }
    println!(
        "\n| console | instructions/request | × without span fields | budget |\n|---|---|---|---|"
    );
    for ([without, with], budget) in SPAN_FIELDS.iter().zip(SPAN_FIELDS_BUDGETS) {
        step(with.name);
        let before = bookapp.instructions(without).await?;
        println!("| {} | {before:.0} | 1.00 | |", without.name);
        let count = bookapp.instructions(with).await?;
        let ratio = count / before;
        println!("| {} | {count:.0} | {ratio:.3} | {budget} |", with.name);
        if ratio > budget {
            over.push(with.name);
        }
    }
    ensure!(over.is_empty(), "over budget: {}", over.join(", "));
    Ok(())
}

/// The program whose instructions are counted.
struct Bookapp<'b> {
    program: &'b Path,
    postgres: &'b Postgres,
    profiles: Option<&'b Path>,
}

impl Bookapp<'_> {
    /// Returns the number of instructions per request, including the export of its telemetry and
    /// excluding the instructions that the idle process executes.
    async fn instructions(&self, setting: &Setting) -> Result<f64> {
        let dependencies = Dependencies::with_postgres(self.postgres).await?;
        let (sink, folder) = (Sink::start().await?, tempdir()?);
        let counts = folder.path().join("counts");
        let spec = Spec::new("bookapp", "valgrind")
            .arg("--tool=callgrind")
            .arg("--quiet")
            .arg(format!("--callgrind-out-file={}", counts.display()))
            .arg(self.program);
        let settings = dependencies.service_spec("bookapp", self.program, &sink);
        let spec = Spec {
            env: settings.env,
            ..spec
        };
        let spec = spec
            .env("OTEL_METRIC_EXPORT_INTERVAL", "60000")
            .env("RUST_LOG", "warn");
        let variables = setting.env.iter();
        let spec = variables.fold(spec, |spec, (name, value)| spec.env(name, *value));
        let service = Service::start(&spec).await?;
        service.wait_until_ready().await?;
        let client = http()?;
        closed_loop(&client, &service.url, Call::Get, REQUESTS, 4).await?; // Warm up.
        let counter = Counter {
            process: service.process.id(),
            counts: &counts,
        };
        counter.zero()?;
        sleep(IDLE).await;
        let idle = counter.dump(1)? / IDLE.as_secs_f64();
        let (logs, spans) = (sink.logs().len(), server_spans(&sink));
        // The service closes a connection that was idle for 5 s.
        let client = http()?;
        counter.zero()?;
        let started = Instant::now();
        closed_loop(&client, &service.url, Call::Get, REQUESTS, 4).await?;
        if setting.name == THINNED.name {
            sleep(EXPORT).await;
        } else if setting.name != OFF.name {
            // The access log is not sampled.
            let logged = || async { (sink.logs().len() >= logs + REQUESTS).then_some(()) };
            eventually(TIMEOUT, "every request is logged", logged).await?;
        }
        if setting.name == FULL.name {
            let traced = || async { (server_spans(&sink) >= spans + REQUESTS).then_some(()) };
            eventually(TIMEOUT, "every request is traced", traced).await?;
        }
        let executed = counter.dump(2)?;
        if let Some(folder) = self.profiles {
            counter.keep(2, &folder.join(format!("{}.callgrind", setting.name)))?;
        }
        let executed = executed - idle * started.elapsed().as_secs_f64();
        Ok(executed / to_f64(REQUESTS))
    }
}

/// Returns the number of SERVER spans so far.
fn server_spans(sink: &Sink) -> usize {
    let spans = sink.spans();
    spans.iter().filter(|span| span.kind == "SERVER").count()
}

/// The callgrind counters of a process.
struct Counter<'c> {
    process: i32,
    counts: &'c Path,
}

impl Counter<'_> {
    fn zero(&self) -> Result<()> {
        self.control("--zero")
    }

    /// Returns the number of instructions since [`zero`](Self::zero). This is the `nth` dump of the
    /// process.
    fn dump(&self, nth: u32) -> Result<f64> {
        self.control("--dump")?;
        let dump = fs::read_to_string(self.file(nth)).context("callgrind wrote no dump")?;
        let totals = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(totals.context("the dump has no totals")?.trim().parse()?)
    }

    /// Copies the `nth` dump to a file.
    fn keep(&self, nth: u32, file: &Path) -> Result<()> {
        let copied = fs::copy(self.file(nth), file);
        copied.with_context(|| format!("cannot write {}", file.display()))?;
        Ok(())
    }

    fn file(&self, nth: u32) -> String {
        format!("{}.{nth}", self.counts.display())
    }

    fn control(&self, what: &str) -> Result<()> {
        let mut control = Command::new("callgrind_control");
        let output = control.arg(what).arg(self.process.to_string()).output()?;
        ensure!(output.status.success(), "callgrind_control {what} failed");
        Ok(())
    }
}
