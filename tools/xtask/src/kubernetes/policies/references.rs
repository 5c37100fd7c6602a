//! References between objects: what names pods, ports or other objects names some that exist.

use serde_json::Value;

use super::workloads;
use crate::kubernetes::{
    manifests::Overlay,
    values::{list, text},
};

pub(super) fn check(overlay: &Overlay, faults: &mut Vec<String>) {
    let templates: Vec<_> = workloads(overlay)
        .map(|(_, workload)| &workload["spec"]["template"])
        .collect();
    let templates = Templates(&templates);
    for (kind, path) in [
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("Deployment", "/spec/selector/matchLabels"),
    ] {
        for object in overlay.of_kind(kind) {
            let selector = object.pointer(path).unwrap_or(&Value::Null);
            if templates.selected(selector).next().is_none() {
                faults.push(format!(
                    "{kind} {}: selects no pod",
                    object["metadata"]["name"]
                ));
            }
        }
    }
    for service in overlay.of_kind("Service") {
        for port in list(&service["spec"]["ports"]) {
            let port = &port["targetPort"];
            if !templates.listen(&service["spec"]["selector"], port) {
                let name = &service["metadata"]["name"];
                faults.push(format!("Service {name}: no container has the port {port}"));
            }
        }
    }
    for policy in overlay.of_kind("NetworkPolicy") {
        let name = text(&policy["metadata"]["name"]);
        let mut fault = |what: String| faults.push(format!("NetworkPolicy {name}: {what}"));
        check_policy(&policy["spec"], &templates, &mut fault);
    }
    for ingress in overlay.of_kind("Ingress") {
        for rule in list(&ingress["spec"]["rules"]) {
            for path in list(&rule["http"]["paths"]) {
                let to = &path["backend"]["service"];
                let is_it = |service: &&Value| service["metadata"]["name"] == to["name"];
                let service = overlay.of_kind("Service").find(is_it);
                let mut ports = list(&service.unwrap_or(&Value::Null)["spec"]["ports"]);
                if !ports.any(|port| port["name"] == to["port"]["name"]) {
                    faults.push(format!("Ingress: no Service {to}"));
                }
            }
        }
    }
}

/// The pods that a policy is for, and those that it allows, exist and listen on the ports that it allows.
fn check_policy(policy: &Value, templates: &Templates<'_>, fault: &mut impl FnMut(String)) {
    let own = &policy["podSelector"]["matchLabels"];
    let mut check = |selector: &Value, rule: &Value| {
        if templates.selected(selector).next().is_none() {
            fault(format!("selects no pod: {selector}"));
        }
        for port in list(&rule["ports"]).map(|port| &port["port"]) {
            if !templates.listen(selector, port) {
                fault(format!("no container has the port {port}: {selector}"));
            }
        }
    };
    if !own.is_null() {
        check(own, &Value::Null);
    }
    for rule in list(&policy["ingress"]) {
        check(own, rule);
        for from in peers(&rule["from"]) {
            check(from, &Value::Null);
        }
    }
    for rule in list(&policy["egress"]) {
        for to in peers(&rule["to"]) {
            check(to, rule);
        }
    }
}

/// Returns the labels of the pods that a rule names.
fn peers(rule: &Value) -> impl Iterator<Item = &Value> {
    let labels = list(rule).map(|peer| &peer["podSelector"]["matchLabels"]);
    labels.filter(|labels| !labels.is_null())
}

/// The templates of all pods.
struct Templates<'o>(&'o [&'o Value]);

impl Templates<'_> {
    /// Returns the templates with these labels.
    fn selected(&self, labels: &Value) -> impl Iterator<Item = &Value> {
        let has_all = move |template: &&&Value| {
            let own = &template["metadata"]["labels"];
            let mut labels = labels.as_object().into_iter().flatten();
            labels.all(|(key, value)| own.get(key) == Some(value))
        };
        self.0.iter().filter(has_all).copied()
    }

    /// Whether a container of each pod with these labels has this port, by its name or its number.
    fn listen(&self, labels: &Value, port: &Value) -> bool {
        self.selected(labels).all(|template| {
            let containers = list(&template["spec"]["containers"]);
            let mut ports = containers.flat_map(|container| list(&container["ports"]));
            ports.any(|own| own["name"] == *port || own["containerPort"] == *port)
        })
    }
}
