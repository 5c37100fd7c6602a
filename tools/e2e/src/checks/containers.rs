//! The containers' own metrics: compose's profile `containers`, which native processes lack.

use anyhow::Result;
use testbed::eventually;

use crate::{
    Stack,
    backends::{self, PATIENCE},
    table::Table,
};

/// One series for each container, told apart by its name.
const MEMORY: &str = "count by (container_name) (container_memory_usage_total_bytes)";
/// How many containers the default profile runs at least.
const CONTAINERS: usize = 10;

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let what = "each container's memory, by its name";
    if stack.is_compose() {
        table.check("Prometheus", what, named().await);
    } else {
        table.not_run("Prometheus", what, "the native stack has no containers");
    }
}

async fn named() -> Result<String> {
    let found = async || {
        let series = backends::series(MEMORY).await.ok()?;
        let names = series
            .iter()
            .filter_map(|series| series["metric"]["container_name"].as_str());
        let names = names.filter(|name| !name.is_empty()).count();
        (names >= CONTAINERS).then(|| format!("{names} containers"))
    };
    eventually(PATIENCE, MEMORY, found).await
}
