//! Numbers of pods: who sets them, and how many may be away.

use serde_json::Value;

use crate::kubernetes::{
    manifests::Overlay,
    values::{list, text},
};

/// The kinds that set the number of pods of a Deployment, by `scaleTargetRef`.
const SCALERS: [&str; 2] = ["HorizontalPodAutoscaler", "ScaledObject"];
/// The worker. Its pods are ready before they have partitions.
const WORKER: &str = "backend";
/// The minimum number of seconds between two of its pods.
const WORKER_SECONDS: u64 = 5;

pub(super) fn check(overlay: &Overlay, faults: &mut Vec<String>) {
    check_scalers(overlay, faults);
    check_budgets(overlay, faults);
    for job in overlay.of_kind("Job") {
        check_job(job, faults);
    }
    for deployment in overlay.of_kind("Deployment") {
        let seconds = deployment["spec"]["minReadySeconds"].as_u64();
        if deployment["metadata"]["name"] == WORKER && seconds.unwrap_or(0) < WORKER_SECONDS {
            faults.push(format!(
                "Deployment {WORKER}: minReadySeconds is less than {WORKER_SECONDS}"
            ));
        }
    }
}

/// What is scaled exists, and only its scaler sets the number of its pods.
fn check_scalers(overlay: &Overlay, faults: &mut Vec<String>) {
    for kind in SCALERS {
        for scaler in overlay.of_kind(kind) {
            let target = text(&scaler["spec"]["scaleTargetRef"]["name"]);
            let is_it = |deployment: &&Value| deployment["metadata"]["name"] == target;
            match overlay.of_kind("Deployment").find(is_it) {
                None => faults.push(format!("{kind}: no Deployment {target}")),
                Some(deployment) if !deployment["spec"]["replicas"].is_null() => {
                    faults.push(format!("{kind}: {target} has a number of replicas too"));
                }
                Some(_) => {}
            }
        }
    }
}

/// Each workload with several pods has a budget, and a budget lets pods go. A workload without a number is scaled.
fn check_budgets(overlay: &Overlay, faults: &mut Vec<String>) {
    let selector = |object: &Value| object["spec"]["selector"]["matchLabels"].clone();
    for budget in overlay.of_kind("PodDisruptionBudget") {
        let most = &budget["spec"]["maxUnavailable"];
        if most.is_null() || most == 0 || most == "0%" {
            let name = &budget["metadata"]["name"];
            faults.push(format!("PodDisruptionBudget {name}: lets no pod go"));
        }
    }
    for kind in ["Deployment", "StatefulSet"] {
        for workload in overlay.of_kind(kind) {
            let replicas = workload["spec"]["replicas"].as_u64();
            let mut budgets = overlay.of_kind("PodDisruptionBudget");
            if replicas.is_none_or(|count| count > 1)
                && !budgets.any(|budget| selector(budget) == selector(workload))
            {
                let name = &workload["metadata"]["name"];
                faults.push(format!("{kind} {name}: no PodDisruptionBudget"));
            }
        }
    }
}

/// A Job cannot be changed, so its name ends with the version of its image.
fn check_job(job: &Value, faults: &mut Vec<String>) {
    let name = text(&job["metadata"]["name"]);
    for container in list(&job["spec"]["template"]["spec"]["containers"]) {
        let image = text(&container["image"]);
        let version = image.rsplit(':').next().unwrap_or_default();
        if !name.ends_with(&format!("-{}", version.replace('.', "-"))) {
            faults.push(format!("Job {name}: its name has no version {version}"));
        }
    }
}
