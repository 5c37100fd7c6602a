//! The end-to-end table, on the native stack.
#![expect(clippy::print_stdout, reason = "the table is what the command answers")]

use anyhow::{Result, ensure};
use e2e::{Stack, checks, drills};
use tokio::runtime::Runtime;

use crate::{stack::Programs, step};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,

    /// For how long Locust runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tools = args.programs.tools()?;
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
