//! What telemetry costs: bookapp beside the baseline that `tools/baseline` is, in turns, in one run.
//!
//! Every program has a database, a Kafka and a sink of its own and stays up for the whole run;
//! in each round each of them gets the same requests, one program after the other. So whatever
//! else happens on the machine happens to all of them, and a ratio is one of neighbours.

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

use crate::{cargo, step};
use load::Call;
use program::Program;
use report::Report;
use setting::SETTINGS;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many rounds count; one more before them warms up.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// How many requests a program gets in a round; of the dearer ones, a share of it.
    #[arg(long, default_value_t = 4000)]
    requests: usize,

    /// How many connections send them.
    #[arg(long, default_value_t = 8)]
    connections: usize,

    /// How many messages relay and worker get; 0 leaves them out.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,

    /// For how many seconds 1,000 requests a second are sent; 0 leaves them out.
    #[arg(long, default_value_t = 10)]
    seconds: usize,

    /// How many workers share the messages.
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// Nothing of this, but the instructions of a GET under callgrind, held against a budget.
    #[arg(long)]
    budget: bool,

    /// A folder with `bookapp` and `backend` of another build, measured at 100 % beside these.
    #[arg(long, value_name = "FOLDER")]
    beside: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.budget {
        return Runtime::new()?.block_on(budget::hold());
    }
    if cfg!(debug_assertions) {
        // The load comes from this process: unoptimised, it would be what is measured.
        let given: Vec<_> = env::args().skip(1).collect();
        let mut command = vec!["run", "--quiet", "--release", "--package", "xtask", "--"];
        command.extend(given.iter().map(String::as_str));
        return cargo::run(&command, &[]);
    }
    Runtime::new()?.block_on(measure(args))
}

async fn measure(args: &Args) -> Result<()> {
    step("building");
    let binaries = build(&["bookapp", "backend", "baseline"], "release")?;
    let postgres = Postgres::start().await?;
    let mut report = Report::default();
    if args.rounds > 0 {
        rounds(args, &binaries, &postgres, &mut report).await?;
    }
    if args.messages > 0 {
        step("relay and worker");
        report.relayed = messages::measure(args, &binaries, &postgres).await?;
    }
    if args.seconds > 0 {
        step("1,000 requests a second");
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
        programs.push(Program::beside(folder, postgres).await?);
    }
    Program::watch_idle(&mut programs).await?;
    for program in &programs {
        report.idle(program.name, program.idle());
    }
    let client = http()?;
    for round in 0..=args.rounds {
        step(&format!("round {round} of {}", args.rounds));
        for call in Call::ALL {
            let requests = call.share(args.requests);
            // Another one is first in each round.
            for place in 0..programs.len() {
                let program = &programs[(place + round) % programs.len()];
                if !program.takes(call) {
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
