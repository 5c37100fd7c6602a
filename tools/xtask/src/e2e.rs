//! Runs the end-to-end checks and drills on the native stack or on docker compose.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

use std::{env, path::PathBuf};

use anyhow::Result;
use e2e::{
    Stack, checks,
    drills::{self, Sample},
    table::Table,
};
use tokio::runtime::Runtime;

use crate::{step, tools::Programs};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,

    /// Duration of the Locust run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// How many of the faults that raise alerts are caused, each in about a minute [default: all].
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    alerts: usize,

    /// The seed that chooses them.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Use `docker compose up` with empty volumes instead of native processes.
    #[arg(long)]
    compose: bool,

    /// With `--compose`: the program that replaces Tempo in the image with Tempo's name.
    #[arg(long, env, value_name = "PROGRAM")]
    compose_run_tempo: Option<PathBuf>,
}

/// The factor by which the windows and intervals of alerting are shorter: an hour is three minutes.
const SPEED: u64 = 20;

pub(crate) fn run(args: &Args) -> Result<()> {
    Runtime::new()?.block_on(async {
        step("starting the stack");
        let mut stack = if args.compose {
            let is_tempo = args.compose_run_tempo.is_none();
            Stack::compose(&env::current_dir()?, &args.programs.locust()?, is_tempo).await?
        } else {
            Stack::native(&args.programs.native(SPEED)?).await?
        };
        step("running Locust");
        stack.run_load(args.seconds, None).await?;
        let mut table = Table::default();
        checks::without_faults(&mut table).await;
        step("checking");
        checks::run(&stack, &mut table).await?;
        step("running failure drills");
        let alerts = Sample {
            count: args.alerts,
            seed: args.seed,
        };
        drills::run(&mut stack, alerts, &mut table).await?;
        checks::alert_queries(&stack, &mut table).await;
        print!("{table}");
        table.result()
    })
}
