//! Faults that are planted in an overlay, to see that the checks find them.

use serde_json::{Value, json};

use super::manifests::Overlay;

/// A fault: what it is, where it is planted, and how.
type Fault = (&'static str, &'static str, &'static str, fn(&mut Value));

const CONTAINER: &str = "/spec/template/spec/containers/0";

const FAULTS: [Fault; 6] = [
    ("a missing probe", "Deployment", "bookapp", |bookapp| {
        at(bookapp, CONTAINER)["readinessProbe"] = Value::Null;
    }),
    ("a wrong selector", "Service", "bookapp", |service| {
        service["spec"]["selector"] = json!({"app.kubernetes.io/name": "book-app"});
    }),
    ("a privileged pod", "Deployment", "backend", |backend| {
        at(backend, CONTAINER)["securityContext"]["privileged"] = json!(true);
    }),
    (
        "a budget that blocks",
        "PodDisruptionBudget",
        "bookapp",
        |budget| {
            budget["spec"]["maxUnavailable"] = json!(0);
        },
    ),
    ("an unknown field", "Deployment", "bookapp", |bookapp| {
        at(bookapp, CONTAINER)["livenesProbe"] = json!({});
    }),
    (
        "a secret that does not exist",
        "Deployment",
        "bookapp",
        |bookapp| {
            at(bookapp, CONTAINER)["env"][0]["valueFrom"]["secretKeyRef"]["name"] =
                json!("databases");
        },
    ),
];

fn at<'v>(value: &'v mut Value, path: &str) -> &'v mut Value {
    value.pointer_mut(path).expect("the manifest has this part")
}

/// Returns the overlay with one fault each, and what the fault is.
pub(super) fn overlays(overlay: &Overlay) -> impl Iterator<Item = (&'static str, Overlay)> {
    FAULTS.into_iter().map(|(what, kind, name, plant)| {
        let mut objects = overlay.objects.clone();
        let planted = objects
            .iter_mut()
            .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        planted.for_each(plant);
        let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
        let required_secrets = overlay.required_secrets.clone();
        let planted = Overlay {
            objects,
            required_secrets,
            text: documents.join("\n---\n"),
        };
        (what, planted)
    })
}
