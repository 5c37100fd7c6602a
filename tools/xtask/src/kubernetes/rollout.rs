//! What happens to the pods of bookapp while they are replaced.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    cluster::{Cluster, TIMEOUT},
    values::{items, text},
};

/// Waits until all pods of a workload are those of its newest version, and available.
pub(super) fn rolled_out(cluster: &Cluster, workload: &str) -> Result<()> {
    let status = [
        "rollout",
        "status",
        "--namespace=bookapp",
        workload,
        TIMEOUT,
    ];
    cluster.kubectl.output(&status).map(drop)
}

/// Changes a setting of bookapp, and watches the numbers of its pods meanwhile.
pub(super) fn rolling_update(cluster: &Cluster) -> Result<String> {
    let change = [
        "set",
        "env",
        "--namespace=bookapp",
        "deployment/bookapp",
        "RUST_LOG=debug",
    ];
    watched(cluster, 0, || {
        cluster.kubectl.output(&change)?;
        rolled_out(cluster, "deployment/bookapp")
    })
}

/// Evicts all pods of the node on which a bookapp runs, and watches the numbers of its pods meanwhile.
pub(super) fn drain(cluster: &Cluster) -> Result<String> {
    let pods = cluster.get(&["pods", "--selector=app.kubernetes.io/name=bookapp"])?;
    let node = text(&pods["items"][0]["spec"]["nodeName"]).to_owned();
    let drain = [
        "drain",
        &*node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        TIMEOUT,
    ];
    let seen = watched(cluster, 1, || {
        cluster.kubectl.output(&drain)?;
        rolled_out(cluster, "deployment/bookapp")
    });
    cluster.kubectl.output(&["uncordon", &node])?;
    let left = cluster.get(&["pods", "--selector=app.kubernetes.io/name=bookapp"])?;
    let is_on_node = |pod: &Value| pod["spec"]["nodeName"] == node.as_str();
    ensure!(
        !items(&left).any(is_on_node),
        "a bookapp is still on {node}"
    );
    Ok(format!("{node}: {}", seen?))
}

/// Runs `change` while the replica sets of bookapp are watched. Fails if at any time more pods than `missing` were not
/// available, or more were wanted than the strategy allows.
fn watched(cluster: &Cluster, missing: u64, change: impl FnOnce() -> Result<()>) -> Result<String> {
    const OF_BOOKAPP: &str = "--selector=app.kubernetes.io/name=bookapp";
    const COLUMNS: &str =
        "--output=jsonpath={.metadata.name} {.spec.replicas} {.status.availableReplicas}{\"\\n\"}";
    let replicas = cluster.get(&["deployment", "bookapp"])?["spec"]["replicas"].as_u64();
    let replicas = replicas.context("no replicas")?;
    let mut sets = BTreeMap::new();
    for set in items(&cluster.get(&["replicasets", OF_BOOKAPP])?) {
        let numbers = [
            &set["spec"]["replicas"],
            &set["status"]["availableReplicas"],
        ];
        let numbers = numbers.map(|number| number.as_u64().unwrap_or(0));
        sets.insert(text(&set["metadata"]["name"]).to_owned(), numbers);
    }
    let watch = [
        "get",
        "replicasets",
        OF_BOOKAPP,
        "--namespace=bookapp",
        "--watch",
        COLUMNS,
    ];
    let mut watch = cluster
        .kubectl
        .command(&watch)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(watch.stdout.take().context("no output")?);
    let mut lines = String::new();
    // The watch has begun when it prints the status of now.
    output.read_line(&mut lines)?;
    let changed = change();
    watch.kill()?;
    watch.wait()?;
    output.read_to_string(&mut lines)?;
    changed?;
    let (mut fewest, mut most) = (replicas, replicas);
    for line in lines.lines() {
        let mut words = line.split(' ');
        let name = words.next().context("no name")?.to_owned();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        sets.insert(name, [number(), number()]);
        let sum = |column: usize| sets.values().map(|numbers| numbers[column]).sum();
        (most, fewest) = (most.max(sum(0)), fewest.min(sum(1)));
    }
    let text = format!("of {replicas} pods, {fewest} to {most} at any time");
    ensure!(
        most <= replicas + 1 && fewest + missing >= replicas,
        "{text}"
    );
    Ok(text)
}
