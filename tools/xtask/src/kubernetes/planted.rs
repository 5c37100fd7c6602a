//! Faults that are planted in an overlay, to see that the checks find them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::manifests::Overlay;

/// A fault: what it is, where it is planted and how, and what the checks say.
pub(super) type Fault = (
    &'static str,
    (&'static str, &'static str),
    fn(&mut Value),
    &'static str,
);

const CONTAINER: &str = "/spec/template/spec/containers/0";

pub(super) const FAULTS: [Fault; 14] = [
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
    (
        "workers that replace each other at once",
        ("Deployment", "backend"),
        |it| it["spec"]["minReadySeconds"] = json!(0),
        "minReadySeconds is less than 5",
    ),
    (
        "a Service for a port that does not exist",
        ("Service", "backend"),
        |it| *at(it, "/spec/ports/0/targetPort") = json!("https"),
        "no container has the port \"https\"",
    ),
    (
        "a Service that does not exist",
        ("Ingress", "bookapp"),
        |it| {
            let service = at(it, "/spec/rules/0/http/paths/0/backend/service");
            service["name"] = json!("book-app");
        },
        "Ingress: no Service \"book-app\"",
    ),
];

/// The faults in the objects of components, as [`FAULTS`].
pub(super) const OF_COMPONENTS: [Fault; 5] = [
    (
        "a route to a port that does not exist",
        ("HTTPRoute", "bookapp"),
        |it| *at(it, "/spec/rules/0/backendRefs/0/port") = json!(80),
        "HTTPRoute: no Service \"bookapp\" with the port 80",
    ),
    (
        "a scaler without a target",
        ("ScaledObject", "backend"),
        |it| it["spec"]["scaleTargetRef"]["name"] = json!("worker"),
        "no Deployment worker",
    ),
    (
        "a scaler of what has another one",
        ("ScaledObject", "backend"),
        |it| it["spec"]["scaleTargetRef"]["name"] = json!("otel-reader"),
        "otel-reader has a number of replicas too",
    ),
    (
        "a scaler with a secret that does not exist",
        ("TriggerAuthentication", "kafka"),
        |it| *at(it, "/spec/secretTargetRef/0/key") = json!("user"),
        "no secret kafka with the key user",
    ),
    (
        "a monitor of a pod that does not exist",
        ("PodMonitor", "otel-collectors"),
        |it| *at(it, "/spec/selector/matchExpressions/0/values/0") = json!("otel-agents"),
        "no pod \"otel-agents\"",
    ),
];

fn at<'v>(value: &'v mut Value, path: &str) -> &'v mut Value {
    value.pointer_mut(path).expect("the manifest has this part")
}

/// Checks an overlay, then plants each fault whose object it has. Fails unless `check` finds them. Returns them.
pub(super) fn check(
    overlay: &Overlay,
    faults: &[Fault],
    check: impl Fn(&Overlay) -> Result<()>,
) -> Result<Vec<&'static str>> {
    check(overlay)?;
    // What planting does to the text is no fault.
    check(&overlay.changed(|_| false, |_| ()))?;
    let mut found = Vec::new();
    for (fault, (kind, name), plant, said) in faults {
        let is_it = |it: &Value| it["kind"] == *kind && it["metadata"]["name"] == *name;
        if overlay.objects.iter().any(is_it) {
            let error = check(&overlay.changed(is_it, *plant)).err();
            let error = error.with_context(|| format!("the checks do not find {fault}"))?;
            ensure!(error.to_string().contains(said), "{fault}: {error}");
            println!("found: {fault}");
            found.push(*fault);
        }
    }
    Ok(found)
}
