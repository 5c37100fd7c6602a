//! Collectors in tiers: an agent sends to gateways. The checks compare them with one collector, and count what is lost
//! when gateways come and go.
//!
//! Every collector has a loopback address of its own, so that all of them run with the same ports and the same
//! configuration files. OTLP sinks replace Tempo, Loki and Prometheus.

mod changes;
mod collectors;
mod figures;
mod load;
mod same;
mod stored;
mod traffic;

use anyhow::Result;

use crate::table::Table;

pub use collectors::Programs;
pub use figures::Figures;
pub use load::Gateway;

/// Checks that two gateways behind an agent give the figures of one collector, for the traffic of this number of books.
/// Then counts what is lost while gateways join, leave and die.
/// Returns the figures of the telemetry of requests.
pub async fn run(programs: &Programs, books: usize, table: &mut Table) -> Result<Figures> {
    let figures = same::check(programs, books, table).await?;
    changes::check(programs, table).await?;
    Ok(figures)
}

/// Measures the CPU time and the memory of one gateway with this number of spans per second. Returns its memory.
pub async fn load(
    programs: &Programs,
    spans_per_second: u64,
    table: &mut Table,
) -> Result<Gateway> {
    load::measure(programs, spans_per_second, table).await
}
