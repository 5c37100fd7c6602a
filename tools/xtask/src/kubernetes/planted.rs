//! Faults that are planted in an overlay, to see that the checks find them.

use serde_json::{Value, json};

use super::manifests::Overlay;

/// A fault: what it is, where it is planted and how, and what the checks say.
type Fault = (
    &'static str,
    (&'static str, &'static str),
    fn(&mut Value),
    &'static str,
);

const CONTAINER: &str = "/spec/template/spec/containers/0";

const FAULTS: [Fault; 11] = [
    (
        "a missing probe",
        ("Deployment", "bookapp"),
        |it| at(it, CONTAINER)["readinessProbe"] = Value::Null,
        "no readinessProbe",
    ),
    (
        "a wrong selector",
        ("Service", "bookapp"),
        |it| it["spec"]["selector"] = json!({"app.kubernetes.io/name": "book-app"}),
        "selects no pod",
    ),
    (
        "a privileged pod",
        ("Deployment", "backend"),
        |it| at(it, CONTAINER)["securityContext"]["privileged"] = json!(true),
        "may gain privileges",
    ),
    (
        "a budget that blocks",
        ("PodDisruptionBudget", "bookapp"),
        |it| it["spec"]["maxUnavailable"] = json!(0),
        "lets no pod go",
    ),
    (
        "an unknown field",
        ("Deployment", "bookapp"),
        |it| at(it, CONTAINER)["livenesProbe"] = json!({}),
        "'livenesProbe' was unexpected",
    ),
    (
        "a secret that does not exist",
        ("Deployment", "bookapp"),
        |it| at(it, CONTAINER)["env"][0]["valueFrom"]["secretKeyRef"]["name"] = json!("databases"),
        "no secret databases",
    ),
    (
        "a policy for pods that do not exist",
        ("NetworkPolicy", "otel-gateway"),
        |it| {
            let from = at(it, "/spec/ingress/0/from/0/podSelector/matchLabels");
            from["app.kubernetes.io/name"] = json!("otel-agents");
        },
        "selects no pod",
    ),
    (
        "a policy for a port that does not exist",
        ("NetworkPolicy", "bookapp"),
        |it| *at(it, "/spec/egress/1/ports/0/port") = json!(4317),
        "no container has the port 4317",
    ),
    (
        "an autoscaler without a target",
        ("HorizontalPodAutoscaler", "bookapp"),
        |it| it["spec"]["scaleTargetRef"]["name"] = json!("book-app"),
        "no Deployment book-app",
    ),
    (
        "too little time to end",
        ("StatefulSet", "otel-gateway"),
        |it| at(it, "/spec/template/spec")["terminationGracePeriodSeconds"] = json!(60),
        "ends after 60s",
    ),
    (
        "a migration with the name of another version",
        ("Job", "migrations-0-2-0"),
        |it| *at(it, "/metadata/name") = json!("migrations-0-1-0"),
        "its name has no version 0.2.0",
    ),
];

fn at<'v>(value: &'v mut Value, path: &str) -> &'v mut Value {
    value.pointer_mut(path).expect("the manifest has this part")
}

/// Returns the overlay with one fault each, what the fault is, and what the checks say about it.
pub(super) fn overlays(
    overlay: &Overlay,
) -> impl Iterator<Item = (&'static str, &'static str, Overlay)> {
    FAULTS.into_iter().map(|(what, (kind, name), plant, said)| {
        let is_it = |it: &Value| it["kind"] == kind && it["metadata"]["name"] == name;
        (what, said, overlay.changed(is_it, plant))
    })
}
