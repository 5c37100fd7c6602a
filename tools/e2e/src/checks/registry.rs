//! Checks all telemetry that the collector received against the telemetry registry.

use anyhow::Result;
use telemetry_registry::Judge;
use testbed::sink::Sink;

use crate::{Stack, table::Table};

pub(super) fn check(stack: &Stack, table: &mut Table) {
    let (part, what) = ("registry", "all received telemetry is declared");
    match &stack.received {
        Some(received) => table.check(part, what, check_declarations(received)),
        None => table.not_run(part, what, "the collector in docker compose has no tap"),
    }
}

// proves: N9
fn check_declarations(received: &Sink) -> Result<String> {
    let mut judge = Judge::new()?;
    judge.judge(received, &["bookapp", "backend"]);
    judge.finish_partial()
}
