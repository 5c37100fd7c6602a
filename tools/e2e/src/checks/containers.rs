//! Checks container metrics. Only docker compose has them, in its profile `containers`.

use anyhow::{Context, Result, ensure};
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

/// The query that returns the container that is closest to its memory limit, in percent.
const CLOSEST: &str = "topk(1, 100 * max by (container_name) (container_memory_usage_total_bytes) \
                       / max by (container_name) (container_memory_usage_limit_bytes))";
/// The highest allowed share of a memory limit, in percent.
const MOST: f64 = 95.0;

pub(super) async fn check(stack: &Stack, table: &mut Table) {
    let names = "memory of each container, by container name";
    let limits = "each container stays below its memory limit";
    if stack.is_compose() {
        table.check("Prometheus", names, memory_by_name().await);
        table.check("Prometheus", limits, below_limits().await);
    } else {
        for what in [names, limits] {
            table.not_run("Prometheus", what, "the native stack has no containers");
        }
    }
}

// proves: N17
async fn below_limits() -> Result<String> {
    let series = backends::series(CLOSEST).await?;
    let series = series.first().context("no container has a memory limit")?;
    let name = series["metric"]["container_name"].as_str();
    let name = name.context("the series has no container name")?;
    let percent: f64 = series["value"][1].as_str().unwrap_or_default().parse()?;
    ensure!(percent < MOST, "{name} uses {percent:.0} % of its limit");
    Ok(format!("at most {percent:.0} % ({name})"))
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
