//! References between objects: what names pods, ports or Services names some that exist.

use serde_json::{Value, json};

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
    check_selectors(overlay, &templates, faults);
    for policy in overlay.of_kind("NetworkPolicy") {
        let name = text(&policy["metadata"]["name"]);
        let mut fault = |what: String| faults.push(format!("NetworkPolicy {name}: {what}"));
        check_policy(&policy["spec"], &templates, &mut fault);
    }
    check_routes(overlay, faults);
    for monitor in overlay.of_kind("PodMonitor") {
        for expression in list(&monitor["spec"]["selector"]["matchExpressions"]) {
            for value in list(&expression["values"]) {
                let labels = json!({text(&expression["key"]): value});
                let mut endpoints = list(&monitor["spec"]["podMetricsEndpoints"]);
                let listen = |endpoint: &Value| templates.listen(&labels, &endpoint["port"]);
                if !templates.is_selected(&labels) || !endpoints.all(listen) {
                    faults.push(format!("PodMonitor: no pod {value} with its port"));
                }
            }
        }
    }
}

/// A workload selects its own pods; Services and budgets select some, which listen on the ports of the Service.
fn check_selectors(overlay: &Overlay, templates: &Templates<'_>, faults: &mut Vec<String>) {
    for (kind, workload) in workloads(overlay).filter(|(kind, _)| *kind != "Job") {
        let selector = &workload["spec"]["selector"]["matchLabels"];
        let own = &workload["spec"]["template"];
        if !Templates(&[own]).is_selected(selector) {
            let name = &workload["metadata"]["name"];
            faults.push(format!("{kind} {name}: does not select its pods"));
        }
    }
    for (kind, path) in [
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
    ] {
        for object in overlay.of_kind(kind) {
            let selector = object.pointer(path).unwrap_or(&Value::Null);
            if !templates.is_selected(selector) {
                let name = &object["metadata"]["name"];
                faults.push(format!("{kind} {name}: selects no pod"));
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
}

/// The pods that a policy is for, and those that it allows, exist and listen on the ports that it allows.
fn check_policy(policy: &Value, templates: &Templates<'_>, fault: &mut impl FnMut(String)) {
    let own = &policy["podSelector"]["matchLabels"];
    let mut check = |selector: &Value, rule: &Value| {
        if !templates.is_selected(selector) {
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

/// What comes from outside goes to a port of a Service.
fn check_routes(overlay: &Overlay, faults: &mut Vec<String>) {
    let mut check = |kind: &str, name: &Value, port: &Value| {
        let is_it = |service: &&Value| service["metadata"]["name"] == *name;
        let service = overlay.of_kind("Service").find(is_it);
        let mut ports = list(&service.unwrap_or(&Value::Null)["spec"]["ports"]);
        let is_port = |own: &Value| own["name"] == *port || own["port"] == *port;
        if port.is_null() || !ports.any(is_port) {
            faults.push(format!("{kind}: no Service {name} with the port {port}"));
        }
    };
    for ingress in overlay.of_kind("Ingress") {
        for rule in list(&ingress["spec"]["rules"]) {
            for path in list(&rule["http"]["paths"]) {
                let to = &path["backend"]["service"];
                let port = to["port"].get("name").unwrap_or(&to["port"]["number"]);
                check("Ingress", &to["name"], port);
            }
        }
    }
    for route in overlay.of_kind("HTTPRoute") {
        for to in list(&route["spec"]["rules"]).flat_map(|rule| list(&rule["backendRefs"])) {
            check("HTTPRoute", &to["name"], &to["port"]);
        }
    }
}

/// The templates of pods.
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

    /// Whether any pod has these labels.
    fn is_selected(&self, labels: &Value) -> bool {
        self.selected(labels).next().is_some()
    }

    /// Whether a container of each pod with these labels has this port, by its name or its number.
    fn listen(&self, labels: &Value, port: &Value) -> bool {
        let has_port = |template: &Value| {
            let containers = list(&template["spec"]["containers"]);
            let mut ports = containers.flat_map(|container| list(&container["ports"]));
            ports.any(|own| own["name"] == *port || own["containerPort"] == *port)
        };
        !port.is_null() && self.selected(labels).all(has_port)
    }
}
