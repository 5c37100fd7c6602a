//! Policies of this project, which no schema expresses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    manifests::Overlay,
    settings::Settings,
    values::{list, text},
};

/// The kinds with a template of pods.
const WORKLOADS: [&str; 4] = ["Deployment", "StatefulSet", "DaemonSet", "Job"];
/// A container whose root is not read-only: its start writes into its image.
const WRITES_TO_ROOT: &str = "kafka";
/// The SDK reads the last one, whose value contains the other ones.
const FOR_RESOURCE: [&str; 3] = ["POD_NAME", "NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];
/// The seconds in which agents forget a gateway, which decides meanwhile: those of a DNS cache, of the decision wait,
/// and of sending what is left.
const DRAIN_SECONDS: u64 = 30 + 15 + 15;
/// The seconds that a process has beyond its preStop and its own time limits to send what is left.
const FLUSH_SECONDS: u64 = 5;

/// Returns what violates a policy.
pub(super) fn faults(overlay: &Overlay, known: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let secrets = secrets(overlay);
    for kind in WORKLOADS {
        for workload in overlay.of_kind(kind) {
            let name = text(&workload["metadata"]["name"]);
            let location = format!("{kind} {name}");
            let mut fault = |what: String| faults.push(format!("{location}: {what}"));
            let pod = &workload["spec"]["template"]["spec"];
            of_pod(pod, &mut fault);
            for container in list(&pod["containers"]) {
                of_container(container, kind, &mut fault);
                of_secrets(container, &secrets, &mut fault);
            }
            of_settings(overlay, pod, known, &mut fault);
        }
    }
    for ingress in overlay.of_kind("Ingress") {
        for tls in list(&ingress["spec"]["tls"]) {
            let secret = text(&tls["secretName"]);
            if !secrets.contains_key(secret) {
                faults.push(format!("Ingress: no secret {secret}"));
            }
        }
    }
    of_selectors(overlay, &mut faults);
    of_budgets(overlay, &mut faults);
    faults
}

/// A pod is restricted, has no token of the API, and ends in order.
fn of_pod(pod: &Value, fault: &mut impl FnMut(String)) {
    let security = &pod["securityContext"];
    if security["runAsNonRoot"] != true {
        fault("may run as root".to_owned());
    }
    if security["seccompProfile"]["type"] != "RuntimeDefault" {
        fault("has no seccomp profile".to_owned());
    }
    if pod["automountServiceAccountToken"] != false || pod["serviceAccountName"].is_null() {
        fault("has no service account of its own without a token".to_owned());
    }
    for volume in list(&pod["volumes"]) {
        if !volume["hostPath"].is_null() {
            fault(format!("mounts the host's {}", volume["hostPath"]["path"]));
        }
        if volume
            .get("emptyDir")
            .is_some_and(|it| it["sizeLimit"].is_null())
        {
            fault(format!("volume {} has no limit", volume["name"]));
        }
    }
}

/// A container has an image with a version, limits, probes and no privilege.
fn of_container(container: &Value, kind: &str, fault: &mut impl FnMut(String)) {
    let image = text(&container["image"]);
    let tag = image
        .rsplit('/')
        .next()
        .and_then(|name| name.split_once(':'));
    if tag.is_none_or(|(_, tag)| tag == "latest" || !tag.contains('.')) {
        fault(format!("image {image} has no version"));
    }
    for resource in ["cpu", "memory"] {
        for bound in ["requests", "limits"] {
            if container["resources"][bound][resource].is_null() {
                fault(format!("no {resource} in {bound}"));
            }
        }
    }
    if kind != "Job" {
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            if container[probe].is_null() {
                fault(format!("no {probe}"));
            }
        }
    }
    let security = &container["securityContext"];
    let drops_all = list(&security["capabilities"]["drop"]).any(|it| it == "ALL");
    if security["allowPrivilegeEscalation"] != false || security["privileged"] == true || !drops_all
    {
        fault("may gain privileges".to_owned());
    }
    if security["readOnlyRootFilesystem"] != true && container["name"] != WRITES_TO_ROOT {
        fault("may write to its root".to_owned());
    }
}

/// Returns the keys of each secret that the overlay makes or requires.
fn secrets(overlay: &Overlay) -> BTreeMap<String, BTreeSet<String>> {
    let made = overlay.of_kind("Secret").map(|secret| {
        let keys = secret["data"].as_object().into_iter().flatten();
        let name = text(&secret["metadata"]["name"]).to_owned();
        (name, keys.map(|(key, _)| key.clone()).collect())
    });
    let required = overlay.required_secrets.iter().cloned();
    let required = required.map(|(name, keys)| (name, keys.into_iter().collect()));
    made.chain(required).collect()
}

/// Each secret that a container uses exists, and no credential is in plain text.
fn of_secrets(
    container: &Value,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    fault: &mut impl FnMut(String),
) {
    for variable in list(&container["env"]) {
        let name = text(&variable["name"]);
        let reference = &variable["valueFrom"]["secretKeyRef"];
        if !reference.is_null() {
            let (secret, key) = (text(&reference["name"]), text(&reference["key"]));
            if !secrets.get(secret).is_some_and(|keys| keys.contains(key)) {
                fault(format!("{name}: no secret {secret} with the key {key}"));
            }
        } else if is_credential(name) && !variable["value"].is_null() {
            fault(format!("{name} is in plain text"));
        }
    }
}

fn is_credential(name: &str) -> bool {
    let parts = [
        "PASSWORD",
        "TOKEN",
        "SECRET",
        "DSN",
        "HMAC_KEY",
        "DATABASE_URL",
    ];
    parts.iter().any(|part| name.contains(part))
}

/// Each `ConfigMap` exists, and all settings are known ones.
fn of_settings(overlay: &Overlay, pod: &Value, known: &Settings, fault: &mut impl FnMut(String)) {
    let map = |name: &Value| {
        let mut maps = overlay.of_kind("ConfigMap");
        maps.find(|map| map["metadata"]["name"] == *name)
    };
    for volume in list(&pod["volumes"]).filter_map(|volume| volume.get("configMap")) {
        if map(&volume["name"]).is_none() {
            fault(format!("no ConfigMap {}", volume["name"]));
        }
    }
    for container in list(&pod["containers"]) {
        let known = known.get(text(&container["name"]));
        for variable in list(&container["env"]) {
            let name = text(&variable["name"]);
            let is_known = known.is_none_or(|known| known.contains(name));
            if !is_known && !FOR_RESOURCE.contains(&name) {
                fault(format!("{name} is not a setting of the program"));
            }
        }
        for source in list(&container["envFrom"]) {
            let name = &source["configMapRef"]["name"];
            let Some(settings) = map(name).map(|map| &map["data"]) else {
                fault(format!("no ConfigMap {name}"));
                continue;
            };
            for (key, _) in settings.as_object().into_iter().flatten() {
                if is_credential(key) {
                    fault(format!("{key} is in plain text"));
                }
                if known.is_some_and(|known| !known.contains(key)) {
                    fault(format!("{key} is not a setting of the program"));
                }
            }
            if container["name"] == "otel-gateway" {
                let sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
                if sleeps.unwrap_or(0) < DRAIN_SECONDS {
                    fault(format!("must run {DRAIN_SECONDS} s before it stops"));
                }
            }
            let seconds = |key| {
                text(&settings[key])
                    .trim_end_matches('s')
                    .parse()
                    .unwrap_or(0)
            };
            let ends = seconds("SHUTDOWN_DRAIN_TIME") + seconds("SHUTDOWN_TIMEOUT");
            let sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
            let needed = ends + sleeps.unwrap_or(0) + FLUSH_SECONDS;
            let given = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
            if given < needed {
                fault(format!("ends after {given} s, but may need {needed} s"));
            }
        }
    }
}

/// What selects pods selects some.
fn of_selectors(overlay: &Overlay, faults: &mut Vec<String>) {
    let templates: Vec<_> = WORKLOADS
        .iter()
        .flat_map(|kind| overlay.of_kind(kind))
        .map(|workload| &workload["spec"]["template"]["metadata"]["labels"])
        .collect();
    for (kind, path) in [
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("Deployment", "/spec/selector/matchLabels"),
    ] {
        for object in overlay.of_kind(kind) {
            let selector = object.pointer(path).and_then(Value::as_object);
            let selects = |labels: &&Value| {
                let mut pairs = selector.into_iter().flatten();
                pairs.all(|(key, value)| labels.get(key) == Some(value))
            };
            if !templates.iter().any(selects) {
                faults.push(format!(
                    "{kind} {}: selects no pod",
                    object["metadata"]["name"]
                ));
            }
        }
    }
}

/// Each workload with several instances has a budget, and a budget lets pods go.
fn of_budgets(overlay: &Overlay, faults: &mut Vec<String>) {
    for budget in overlay.of_kind("PodDisruptionBudget") {
        if budget["spec"]["maxUnavailable"]
            .as_u64()
            .is_none_or(|count| count == 0)
        {
            faults.push(format!(
                "PodDisruptionBudget {}: lets no pod go",
                budget["metadata"]["name"]
            ));
        }
    }
    for kind in ["Deployment", "StatefulSet"] {
        for workload in overlay.of_kind(kind) {
            let labels = &workload["spec"]["selector"]["matchLabels"];
            let mut budgets = overlay.of_kind("PodDisruptionBudget");
            let has_budget =
                budgets.any(|budget| &budget["spec"]["selector"]["matchLabels"] == labels);
            if workload["spec"]["replicas"]
                .as_u64()
                .is_some_and(|count| count > 1)
                && !has_budget
            {
                faults.push(format!(
                    "{kind} {}: no PodDisruptionBudget",
                    workload["metadata"]["name"]
                ));
            }
        }
    }
}
