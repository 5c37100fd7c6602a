//! Failure drills: alerts, outages of components, tail sampling, and a full queue.

mod alerts;
mod outages;
mod queue;
mod sampling;

use anyhow::Result;

use crate::{Stack, table::Table};

/// Runs each drill. All components run again afterwards.
pub async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    alerts::run(stack, table).await?;
    outages::run(stack, table).await?;
    sampling::run(stack, table).await?;
    queue::run(stack, table).await
}
