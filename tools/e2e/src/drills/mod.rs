//! What is done to the stack on purpose.

mod outages;
mod queue;
mod sampling;

use anyhow::Result;

use crate::{Stack, table::Table};

/// Each drill in turn; all parts run again afterwards.
pub async fn run(stack: &mut Stack, table: &mut Table) -> Result<()> {
    outages::run(stack, table).await?;
    sampling::run(stack, table).await?;
    queue::run(stack, table).await
}
