//! What a real API server and its controllers do with an overlay.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::table::Table;
use serde_json::json;
use testbed::eventually;

use super::{
    cluster::{Cluster, TIMEOUT},
    manifests::Overlay,
    rollout::{drain, rolled_out, rolling_update},
    values::{items, list, text},
};

const SETTLED: Duration = Duration::from_secs(90);

/// Applies an overlay, tries what a cluster does with it, and removes it.
// proves: N23 N29
pub(super) async fn check(
    cluster: &Cluster,
    name: &'static str,
    overlay: &Overlay,
    table: &mut Table,
) {
    let settled = async |check: fn(&Cluster) -> Result<String>| settled(|| check(cluster)).await;
    let mut row = |what: &str, found| table.check(name, what, found);
    row("applied without a warning", apply(cluster, overlay));
    row("the migrations are complete", migrations(cluster));
    row(
        "the HorizontalPodAutoscaler scales bookapp",
        settled(autoscaler).await,
    );
    row("each workload is available", available(cluster, overlay));
    row("each Service leads to its pods", settled(services).await);
    row(
        "each PodDisruptionBudget counts its pods",
        settled(budgets).await,
    );
    row("a privileged pod is refused", privileged(cluster));
    row(
        "a new version replaces the old one, pod by pod",
        rolling_update(cluster),
    );
    row("a node is drained", drain(cluster));
    row("everything is removed", remove(cluster));
}

/// Returns what `check` finds once it succeeds, or its last error: controllers take a moment.
async fn settled(check: impl Fn() -> Result<String>) -> Result<String> {
    let found = async || check().ok();
    match eventually(SETTLED, "the controllers have acted", found).await {
        Ok(found) => Ok(found),
        Err(_) => check(),
    }
}

/// Creates the secrets that must exist, and applies the overlay.
pub(super) fn apply(cluster: &Cluster, overlay: &Overlay) -> Result<String> {
    cluster.add_namespace()?;
    for (name, keys) in &overlay.required_secrets {
        let values = keys.iter().map(|key| (key.clone(), json!("dummy")));
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "bookapp"},
            "stringData": values.collect::<serde_json::Map<_, _>>(),
        });
        cluster.apply(&secret.to_string())?;
    }
    volumes(cluster)?;
    let warnings = cluster.apply(&overlay.text)?;
    ensure!(warnings.is_empty(), "{}", warnings.join("\n"));
    Ok(format!("{} objects", overlay.objects.len()))
}

/// Creates volumes for the claims of the gateways: nothing provisions any here.
fn volumes(cluster: &Cluster) -> Result<()> {
    for number in 0..4 {
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("volume-{number}")},
            "spec": {
                "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": format!("/volumes/{number}")},
                "persistentVolumeReclaimPolicy": "Delete",
            },
        });
        cluster.apply(&volume.to_string())?;
    }
    Ok(())
}

fn migrations(cluster: &Cluster) -> Result<String> {
    let wait = [
        "wait",
        "job",
        "--namespace=bookapp",
        "--selector=app.kubernetes.io/name=migrations",
    ];
    cluster
        .kubectl
        .output(&[&wait[..], &["--for=condition=Complete", TIMEOUT]].concat())?;
    let jobs = cluster.get(&["jobs"])?;
    let name = jobs["items"][0]["metadata"]["name"]
        .as_str()
        .context("no job")?;
    Ok(name.to_owned())
}

fn available(cluster: &Cluster, overlay: &Overlay) -> Result<String> {
    let mut found = Vec::new();
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        for workload in overlay.of_kind(kind) {
            let name = workload["metadata"]["name"].as_str().context("no name")?;
            rolled_out(cluster, &format!("{kind}/{name}"))?;
            let status = cluster.get(&[kind, name])?;
            let ready =
                ["readyReplicas", "numberReady"].map(|field| status["status"][field].as_u64());
            let ready = ready.into_iter().flatten().next().unwrap_or(0);
            ensure!(ready > 0, "{name}: no pod is ready");
            found.push(format!("{name} {ready}"));
        }
    }
    Ok(found.join(", "))
}

/// Compares the addresses of each Service with the pods that its selector means.
fn services(cluster: &Cluster) -> Result<String> {
    let mut found = Vec::new();
    for service in items(&cluster.get(&["services"])?) {
        let name = text(&service["metadata"]["name"]);
        let app = text(&service["spec"]["selector"]["app.kubernetes.io/name"]);
        let pods = cluster.get(&[
            "pods",
            "--selector",
            &format!("app.kubernetes.io/name={app}"),
        ])?;
        let slices = format!("kubernetes.io/service-name={name}");
        let slices = cluster.get(&["endpointslices", "--selector", &slices])?;
        let addresses: usize = items(&slices)
            .map(|slice| list(&slice["endpoints"]).count())
            .sum();
        let pods = items(&pods).count();
        ensure!(
            pods > 0 && addresses == pods,
            "{name}: {addresses} addresses of {pods} pods"
        );
        found.push(format!("{name} {addresses}"));
    }
    Ok(found.join(", "))
}

fn budgets(cluster: &Cluster) -> Result<String> {
    let mut found = Vec::new();
    for budget in items(&cluster.get(&["poddisruptionbudgets"])?) {
        let (name, status) = (text(&budget["metadata"]["name"]), &budget["status"]);
        let (pods, allowed) = (
            status["expectedPods"].as_u64(),
            status["disruptionsAllowed"].as_u64(),
        );
        let is_right = pods.is_some_and(|pods| pods > 0) && allowed == Some(1);
        ensure!(is_right, "{name}: {status}");
        found.push(format!("{name} {}", pods.unwrap_or(0)));
    }
    Ok(found.join(", "))
}

/// There is no source of CPU times here, so it scales to its minimum only.
fn autoscaler(cluster: &Cluster) -> Result<String> {
    let scaler = cluster.get(&["horizontalpodautoscalers", "bookapp"])?;
    let (spec, now) = (&scaler["spec"], &scaler["status"]["currentReplicas"]);
    let bookapp = cluster.get(&["deployment", "bookapp"])?;
    let is_scaled = now == &spec["minReplicas"] && now == &bookapp["status"]["replicas"];
    ensure!(
        is_scaled,
        "{now} replicas now, at least {}",
        spec["minReplicas"]
    );
    Ok(format!("{now}, up to {}", spec["maxReplicas"]))
}

fn privileged(cluster: &Cluster) -> Result<String> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "privileged", "namespace": "bookapp"},
        "spec": {"containers": [{"name": "shell", "image": "busybox:1.37.0", "securityContext": {"privileged": true}}]},
    });
    let error = cluster
        .apply(&pod.to_string())
        .err()
        .context("it was accepted")?;
    let error = error.to_string();
    ensure!(
        error.contains("violates PodSecurity \"restricted"),
        "{error}"
    );
    Ok("by Pod Security, as not restricted".to_owned())
}

fn remove(cluster: &Cluster) -> Result<String> {
    for what in [&["namespace", "bookapp"], &["persistentvolumes", "--all"]] {
        cluster
            .kubectl
            .output(&[&["delete", TIMEOUT][..], what].concat())?;
    }
    let left = cluster
        .kubectl
        .output(&["get", "namespace,persistentvolume", "--output=name"])?;
    let left = String::from_utf8(left.stdout)?;
    let is_left = left.contains("bookapp") || left.contains("volume-");
    ensure!(!is_left, "{left}");
    Ok("the namespace and the volumes are gone".to_owned())
}
