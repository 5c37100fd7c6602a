//! Policies of this project, which no schema expresses.

mod known;
mod pods;
mod references;
mod replicas;
mod secrets;
mod settings;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    manifests::Overlay,
    values::{list, text},
};

pub(super) use known::Known;

/// The kinds with a template of pods.
const WORKLOADS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "Job"];

/// Fails with everything that violates a policy.
pub(super) fn check(overlay: &Overlay, known: &Known) -> Result<()> {
    let faults = faults(overlay, known);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn faults(overlay: &Overlay, known: &Known) -> Vec<String> {
    let mut faults = Vec::new();
    let secrets = secrets::of(overlay);
    for (kind, workload) in workloads(overlay) {
        let name = text(&workload["metadata"]["name"]);
        let mut fault = |what: String| faults.push(format!("{kind} {name}: {what}"));
        let pod = &workload["spec"]["template"]["spec"];
        pods::check_pod(pod, &mut fault);
        for container in list(&pod["containers"]) {
            pods::check_container(container, kind, &mut fault);
            secrets::check(container, &secrets, &mut fault);
        }
        settings::check(overlay, pod, known, &mut fault);
    }
    secrets::check_others(overlay, &secrets, &mut faults);
    references::check(overlay, &mut faults);
    replicas::check(overlay, &mut faults);
    faults
}

/// Returns the objects with a template of pods, each with its kind.
fn workloads(overlay: &Overlay) -> impl Iterator<Item = (&'static str, &Value)> {
    WORKLOADS
        .into_iter()
        .flat_map(|kind| overlay.of_kind(kind).map(move |workload| (kind, workload)))
}
