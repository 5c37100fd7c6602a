//! Checks container metrics. Only docker compose has them, in its profile `containers`.

use anyhow::Result;
use testbed::eventually;

use crate::{
    Stack,
    backends::{self, TIMEOUT},
    table::Table,
};

/// The query that returns one series for each container name.
const MEMORY: &str = "count by (container_name) (container_memory_usage_total_bytes)";
/// The minimum number of containers in the default profile.
const CONTAINERS: usize = 10;

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let what = "memory of each container, by container name";
    if stack.is_compose() {
        table.check("Prometheus", what, memory_by_name().await);
    } else {
        table.not_run("Prometheus", what, "the native stack has no containers");
    }
}

async fn memory_by_name() -> Result<String> {
    let found = async || {
        let series = backends::series(MEMORY).await.ok()?;
        let names = series
            .iter()
            .filter_map(|series| series["metric"]["container_name"].as_str());
        let names = names.filter(|name| !name.is_empty()).count();
        (names >= CONTAINERS).then(|| format!("{names} containers"))
    };
    eventually(TIMEOUT, MEMORY, found).await
}
