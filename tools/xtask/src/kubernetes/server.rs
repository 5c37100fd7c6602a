//! What a real API server and its controllers do with an overlay.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::table::Table;
use serde_json::{Value, json};
use testbed::eventually;

use super::{
    cluster::{Cluster, module},
    manifests::Overlay,
};

const TIMEOUT: &str = "--timeout=90s";
const SETTLED: Duration = Duration::from_secs(90);

/// The components that need custom resources: their Go module and the folder with its schemas, if there is one.
const COMPONENTS: [(&str, Option<(&str, &str)>); 5] = [
    (
        "gateway-api",
        Some(("sigs.k8s.io/gateway-api@v1.6.3", "config/crd/standard")),
    ),
    (
        "keda",
        Some(("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases")),
    ),
    (
        "prometheus-operator",
        Some((
            "github.com/prometheus-operator/prometheus-operator@v0.85.0",
            "example/prometheus-operator-crd",
        )),
    ),
    (
        "cloudnativepg",
        Some((
            "github.com/cloudnative-pg/cloudnative-pg@v1.29.0",
            "config/crd/bases",
        )),
    ),
    ("strimzi", None),
];

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

/// Applies each component in a namespace of its own, after the definitions of its resources.
pub(super) fn components(cluster: &Cluster, table: &mut Table) {
    for (name, schemas) in COMPONENTS {
        match schemas {
            None => table.not_run("components", name, "no package registry has its schema"),
            Some((go_module, folder)) => {
                table.check(
                    "components",
                    name,
                    component(cluster, name, go_module, folder),
                );
            }
        }
    }
    let _ = cluster
        .kubectl
        .output(&["delete", "namespace", "bookapp", TIMEOUT]);
}

fn component(cluster: &Cluster, name: &str, go_module: &str, folder: &str) -> Result<String> {
    let folder = module(go_module)?.join(folder);
    let mut definitions = 0;
    for file in fs::read_dir(folder)? {
        let text = fs::read_to_string(file?.path())?;
        if text.contains("kind: CustomResourceDefinition") {
            cluster.apply(&text)?;
            definitions += 1;
        }
    }
    let wait = [
        "wait",
        "crd",
        "--all",
        "--for=condition=Established",
        TIMEOUT,
    ];
    cluster.kubectl.output(&wait)?;
    cluster.apply(&namespace())?;
    let warnings = cluster.apply(&cluster.kubectl.render_component(name)?)?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(format!(
        "accepted, with {definitions} definitions of {go_module}"
    ))
}

fn namespace() -> String {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bookapp"}}).to_string()
}

/// Creates the secrets that must exist, and applies the overlay.
pub(super) fn apply(cluster: &Cluster, overlay: &Overlay) -> Result<String> {
    cluster.apply(&namespace())?;
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

fn rolled_out(cluster: &Cluster, workload: &str) -> Result<()> {
    let status = [
        "rollout",
        "status",
        "--namespace=bookapp",
        workload,
        TIMEOUT,
    ];
    cluster.kubectl.output(&status).map(drop)
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
            .map(|slice| items_of(&slice["endpoints"]).count())
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

/// Changes a setting of bookapp, and watches the numbers of its pods meanwhile.
fn rolling_update(cluster: &Cluster) -> Result<String> {
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
fn drain(cluster: &Cluster) -> Result<String> {
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

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    items_of(&answer["items"])
}

fn items_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
