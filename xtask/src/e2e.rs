//! The end-to-end table, on the native stack.
#![expect(clippy::print_stdout, reason = "the table is what the command answers")]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use e2e::{Stack, checks, drills, stack::Tools};
use tokio::runtime::Runtime;

use crate::step;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of `otelcol-bookapp`, `prometheus` and `loki`.
    #[arg(long, env, value_name = "FOLDER")]
    stack_bin: PathBuf,

    /// The folder of Kafka's jars: `mvn -f kafka/pom.xml dependency:copy-dependencies`.
    #[arg(long, env, value_name = "FOLDER")]
    kafka_jars: PathBuf,

    /// Locust, with what `requests/requirements.txt` names.
    #[arg(long, env, default_value = "locust", value_name = "PROGRAM")]
    locust: PathBuf,

    /// For how long Locust runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tools = Tools {
        binaries: args.stack_bin.clone(),
        kafka: args.kafka_jars.clone(),
        locust: args.locust.clone(),
        root: std::env::current_dir()?,
    };
    Runtime::new()?.block_on(async {
        step("starting the stack");
        let mut stack = Stack::start(&tools).await?;
        step("Locust");
        stack.load(args.seconds).await?;
        step("checking");
        let mut checks = checks::run(&stack).await?;
        step("taking parts away");
        checks.extend(drills::run(&mut stack).await?);
        println!("| part | check | outcome |\n|---|---|---|");
        for check in &checks {
            let outcome = match &check.outcome {
                Ok(found) => format!("✓ {found}"),
                Err(why) => format!("✗ {why:#}"),
            };
            println!("| {} | {} | {outcome} |", check.part, check.what);
        }
        println!("| Tempo | TraceQL, search | not run: the OTLP sink stands in its place |");
        let failed = checks.iter().filter(|check| check.outcome.is_err()).count();
        ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
        Ok(())
    })
}
