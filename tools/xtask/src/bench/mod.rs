//! Measures the cost of telemetry: compares bookapp with different telemetry settings with the
//! program in `tools/baseline`, in one run.
//!
//! Each program has its own database, Kafka cluster and OTLP sink, and runs during the complete
//! run. Each round sends the same requests to each program, one after the other. Other load on the
//! machine therefore affects all programs, and the report compares measurements of the same round.

mod aims;
mod budget;
mod load;
mod messages;
mod program;
mod report;
mod setting;

use std::{collections::HashMap, env, path::PathBuf};

use anyhow::Result;
use testbed::postgres::Postgres;
use testbed::system::{build, http};
use tokio::runtime::Runtime;

use crate::{cargo, step, tools::Programs};
use load::Call;
use program::Program;
use report::Report;
use setting::SETTINGS;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of measured rounds; one warm-up round precedes them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Number of `GET /books/1` requests per program and round; a quarter of it for each other
    /// request.
    #[arg(long, default_value_t = 4000)]
    requests: usize,

    /// Number of connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,

    /// Number of messages for the relay and worker benchmark; 0 skips it.
    #[arg(long, default_value_t = 40_000)]
    messages: usize,

    /// Number of old rows in outbox and ledger before the relay and worker benchmark.
    #[arg(long, default_value_t = 0)]
    rows: usize,

    /// Duration of the benchmark with 1,000 requests per second, in seconds; 0 skips it.
    #[arg(long, default_value_t = 10)]
    seconds: usize,

    /// Number of workers that share the messages.
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// Let PostgreSQL wait for the disk in the relay and worker benchmark.
    #[arg(long)]
    fsync: bool,

    /// Also measure the time from a request to the details of its book, with a real Kafka, whose jars are
    /// downloaded from Maven Central.
    #[arg(long)]
    real_kafka: bool,

    #[command(flatten)]
    programs: Programs,

    /// Only count the instructions of a GET under callgrind and compare them with a budget.
    #[arg(long)]
    budget: bool,

    /// A folder for the callgrind profiles of `--budget`.
    #[arg(long, value_name = "FOLDER", requires = "budget")]
    profiles: Option<PathBuf>,

    /// A folder with `bookapp` and `backend` of another build, which are also measured.
    #[arg(long, value_name = "FOLDER")]
    beside: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.budget {
        return Runtime::new()?.block_on(budget::check(args.profiles.as_deref()));
    }
    if cfg!(debug_assertions) {
        // This process generates the load: an unoptimised build would be the bottleneck.
        let arguments: Vec<_> = env::args().skip(1).collect();
        let mut command = vec!["run", "--quiet", "--release", "--package", "xtask", "--"];
        command.extend(arguments.iter().map(String::as_str));
        return cargo::run(&command, &[]);
    }
    Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    step("building");
    let binaries = build(&["bookapp", "backend", "baseline"], &[], "release")?;
    let postgres = Postgres::start().await?;
    let mut report = Report::default();
    if args.rounds > 0 {
        rounds(args, &binaries, &postgres, &mut report).await?;
    }
    if args.messages > 0 {
        step("relay and worker");
        let postgres = if args.fsync {
            &Postgres::start_durable().await?
        } else {
            &postgres
        };
        report.relayed = messages::measure(args, &binaries, postgres).await?;
        if args.real_kafka {
            report.latency = messages::latency(args, &binaries, postgres).await?;
        }
    }
    if args.seconds > 0 {
        step("1,000 requests per second");
        report.paced = Some(load::paced(args.seconds, &binaries, &postgres).await?);
    }
    report.print();
    aims::print(&report);
    Ok(())
}

async fn rounds(
    args: &Args,
    binaries: &HashMap<String, PathBuf>,
    postgres: &Postgres,
    report: &mut Report,
) -> Result<()> {
    let mut programs = vec![Program::baseline(binaries, postgres).await?];
    for setting in &SETTINGS {
        programs.push(Program::services(setting, binaries, postgres).await?);
    }
    if let Some(folder) = &args.beside {
        programs.push(Program::other_build(folder, postgres).await?);
    }
    Program::measure_idle(&mut programs).await?;
    for program in &programs {
        report.idle(program.name, program.idle());
    }
    let client = http()?;
    for round in 0..=args.rounds {
        step(&format!("round {round} of {}", args.rounds));
        for call in Call::ALL {
            let requests = call.share(args.requests);
            // Each round starts with another program.
            for index in 0..programs.len() {
                let program = &programs[(index + round) % programs.len()];
                if !program.handles(call) {
                    continue;
                }
                let sample = program
                    .measure(&client, call, requests, args.connections)
                    .await?;
                if round > 0 {
                    report.add(program.name, call, sample);
                }
            }
        }
        for program in &programs {
            report.memory(program.name, program.memory()?);
        }
    }
    for program in programs {
        report.exports(program.metrics());
    }
    Ok(())
}
