//! Compares collectors in tiers with one collector, and measures a gateway.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

use std::env;

use anyhow::Result;
use e2e::{table::Table, tiers};
use tokio::runtime::Runtime;

use crate::{scale_model, step, tools::Programs};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,

    /// The number of books whose telemetry is compared.
    #[arg(long, default_value_t = 400)]
    books: usize,

    /// Measure one gateway with this number of spans per second instead.
    #[arg(long, value_name = "SPANS", value_parser = clap::value_parser!(u64).range(40..=100_000))]
    spans_per_second: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let programs = tiers::Programs {
        binaries: args.programs.stack_bin()?,
        root: env::current_dir()?,
    };
    Runtime::new()?.block_on(async {
        let mut table = Table::default();
        if let Some(rate) = args.spans_per_second {
            step("sending spans to a gateway");
            let gateway = tiers::load(&programs, rate, &mut table).await?;
            print!("{table}");
            table.result()?;
            return scale_model::compare_gateway(&gateway);
        }
        step("one collector, and an agent with gateways");
        let figures = tiers::run(&programs, args.books, &mut table).await?;
        print!("{table}");
        println!("{figures:#?}");
        table.result()?;
        scale_model::compare(&figures)
    })
}
