//! Settings: the programs know them, and they leave enough time to end.

use std::time::Duration;

use serde_json::Value;

use super::{known::Known, secrets::is_credential};
use crate::kubernetes::{
    manifests::Overlay,
    values::{list, text},
};

/// The SDK reads the last one, whose value contains the other ones.
const FOR_RESOURCE: [&str; 3] = ["POD_NAME", "NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];
/// The time until an agent forgets the address of a gateway that ends: that of a DNS cache.
const DNS_CACHE: Duration = Duration::from_secs(30);
/// `TAIL_SAMPLING_DECISION_WAIT` by default.
const DECISION_WAIT: Duration = Duration::from_secs(15);
/// The time in which a gateway sends what it has decided last.
const LAST: Duration = Duration::from_secs(15);
/// The time that a process has beyond its preStop and its own time limits to send what is left.
const FLUSH: Duration = Duration::from_secs(5);

/// Each `ConfigMap` exists, all settings are known ones, and the pod has enough time to end.
pub(super) fn check(
    overlay: &Overlay,
    pod: &Value,
    container: &Value,
    known: &Known,
    fault: &mut impl FnMut(String),
) {
    let map = |name: &Value| {
        let mut maps = overlay.of_kind("ConfigMap");
        maps.find(|map| map["metadata"]["name"] == *name)
    };
    for volume in list(&pod["volumes"]).filter_map(|volume| volume.get("configMap")) {
        if map(&volume["name"]).is_none() {
            fault(format!("no ConfigMap {}", volume["name"]));
        }
    }
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
        check_end(pod, container, settings, fault);
    }
}

/// The pod has enough time to end: a service for its requests, a gateway for the traces that it holds.
fn check_end(pod: &Value, container: &Value, settings: &Value, fault: &mut impl FnMut(String)) {
    let mut time = |key: &str, default: Duration| match &settings[key] {
        Value::Null => default,
        value => humantime::parse_duration(text(value)).unwrap_or_else(|error| {
            fault(format!("{key}: {error}"));
            default
        }),
    };
    let drain = time("SHUTDOWN_DRAIN_TIME", Duration::ZERO);
    let drain = drain + time("SHUTDOWN_TIMEOUT", Duration::ZERO);
    let decision = time("TAIL_SAMPLING_DECISION_WAIT", DECISION_WAIT);
    let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    let sleep = Duration::from_secs(sleep.unwrap_or(0));
    let needed = DNS_CACHE + decision + LAST;
    if container["name"] == "otel-gateway" && sleep < needed {
        fault(format!("must run for {needed:?} before it stops"));
    }
    let needed = drain + sleep + FLUSH;
    let given = pod["terminationGracePeriodSeconds"].as_u64();
    let given = Duration::from_secs(given.unwrap_or(30));
    if given < needed {
        fault(format!("ends after {given:?}, but may need {needed:?}"));
    }
}
