//! Secrets: each one exists with its keys, and no credential is in plain text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kubernetes::{
    manifests::Overlay,
    values::{list, text},
};

/// The keys of each secret.
pub(super) type Secrets = BTreeMap<String, BTreeSet<String>>;

/// Returns the secrets that the overlay makes or requires.
pub(super) fn of(overlay: &Overlay) -> Secrets {
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
pub(super) fn check(container: &Value, secrets: &Secrets, fault: &mut impl FnMut(String)) {
    for variable in list(&container["env"]) {
        let name = text(&variable["name"]);
        let reference = &variable["valueFrom"]["secretKeyRef"];
        if !reference.is_null() {
            let (secret, key) = (text(&reference["name"]), text(&reference["key"]));
            if !has(secrets, secret, key) {
                fault(format!("{name}: no secret {secret} with the key {key}"));
            }
        } else if is_credential(name) && !variable["value"].is_null() {
            fault(format!("{name} is in plain text"));
        }
    }
}

/// The certificate of each Ingress exists, and what a scaler signs in with.
pub(super) fn check_others(overlay: &Overlay, secrets: &Secrets, faults: &mut Vec<String>) {
    for ingress in overlay.of_kind("Ingress") {
        for tls in list(&ingress["spec"]["tls"]) {
            let secret = text(&tls["secretName"]);
            if !secrets.contains_key(secret) {
                faults.push(format!("Ingress: no secret {secret}"));
            }
        }
    }
    for trigger in overlay.of_kind("TriggerAuthentication") {
        for reference in list(&trigger["spec"]["secretTargetRef"]) {
            let (secret, key) = (text(&reference["name"]), text(&reference["key"]));
            if !has(secrets, secret, key) {
                faults.push(format!(
                    "TriggerAuthentication: no secret {secret} with the key {key}"
                ));
            }
        }
    }
}

fn has(secrets: &Secrets, secret: &str, key: &str) -> bool {
    secrets.get(secret).is_some_and(|keys| keys.contains(key))
}

pub(super) fn is_credential(name: &str) -> bool {
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
