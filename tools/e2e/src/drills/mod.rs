//! Failure drills: alerts, outages of components, tail sampling, and a full queue.

mod alerts;
mod outages;
mod queue;
mod sampling;

use anyhow::Result;

use crate::{Stack, table::Table};

pub use alerts::Sample;

/// Runs the drills, of those of alerts only the chosen ones. All components run again afterwards.
pub async fn run(stack: &mut Stack, alerts: Sample, table: &mut Table) -> Result<()> {
    alerts::run(stack, alerts, table).await?;
    outages::run(stack, table).await?;
    sampling::run(stack, table).await?;
    queue::run(stack, table).await
}
