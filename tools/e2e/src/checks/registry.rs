//! What the collector received, against the registry.

use anyhow::Result;
use telemetry_registry::Judge;
use testbed::sink::Sink;

use crate::{Stack, table::Table};

pub(super) fn check(stack: &Stack, table: &mut Table) {
    let (part, what) = ("registry", "all that the collector received is declared");
    match &stack.received {
        Some(received) => table.check(part, what, judged(received)),
        None => table.not_run(part, what, "the collector of compose is not tapped"),
    }
}

// proves: N9
fn judged(received: &Sink) -> Result<String> {
    let mut judge = Judge::new()?;
    judge.judge(received, &["bookapp", "backend"]);
    judge.offences()
}
