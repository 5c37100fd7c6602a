//! Settings: the programs know them, and they leave enough time to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::{known::Known, secrets::is_credential};
use crate::kubernetes::{
    manifests::Overlay,
    values::{list, text},
};

/// The SDK reads the last one, whose value contains the other ones.
const FOR_RESOURCE: [&str; 3] = ["POD_NAME", "NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];
/// The settings that say how long a program may need to end, with their values by default.
const DRAIN_TIME: (&str, Duration) = ("SHUTDOWN_DRAIN_TIME", Duration::from_secs(2));
const TIMEOUT: (&str, Duration) = ("SHUTDOWN_TIMEOUT", Duration::from_secs(5));
const DECISION_WAIT: (&str, Duration) = ("TAIL_SAMPLING_DECISION_WAIT", Duration::from_secs(15));
/// The time until an agent forgets the address of a gateway that ends: that of a DNS cache.
const DNS_CACHE: Duration = Duration::from_secs(30);
/// The time in which a gateway sends what it has decided last.
const LAST: Duration = Duration::from_secs(15);
/// The time that a process has beyond its preStop and its own time limits to send what is left.
const FLUSH: Duration = Duration::from_secs(5);

/// The values of a container's settings. That of a reference is empty.
type Settings<'o> = BTreeMap<&'o str, &'o str>;

/// Each `ConfigMap` exists, all settings are known ones, and the containers have enough time to end.
pub(super) fn check(overlay: &Overlay, pod: &Value, known: &Known, fault: &mut impl FnMut(String)) {
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
        let mut settings = Settings::new();
        for source in list(&container["envFrom"]) {
            let name = &source["configMapRef"]["name"];
            match map(name) {
                None => fault(format!("no ConfigMap {name}")),
                Some(map) => {
                    let data = map["data"].as_object().into_iter().flatten();
                    settings.extend(data.map(|(key, value)| (&**key, text(value))));
                }
            }
        }
        for key in settings.keys().filter(|key| is_credential(key)) {
            fault(format!("{key} is in plain text"));
        }
        let variables = list(&container["env"]);
        settings
            .extend(variables.map(|variable| (text(&variable["name"]), text(&variable["value"]))));
        if let Some(known) = known.get(text(&container["name"])) {
            let names = settings.keys().filter(|name| !FOR_RESOURCE.contains(name));
            for name in names.filter(|name| !known.contains(**name)) {
                fault(format!("{name} is not a setting of the program"));
            }
            check_end(pod, container, &settings, known, fault);
        }
    }
}

/// A container has enough time to end: a service for its requests, a gateway for the traces that it holds.
fn check_end(
    pod: &Value,
    container: &Value,
    settings: &Settings<'_>,
    known: &BTreeSet<String>,
    fault: &mut impl FnMut(String),
) {
    let mut time = |(key, default): (&str, Duration)| match settings.get(key) {
        Some(value) => humantime::parse_duration(value).unwrap_or_else(|error| {
            fault(format!("{key}: {error}"));
            default
        }),
        None if known.contains(key) => default,
        None => Duration::ZERO,
    };
    let (drain, decision) = (time(DRAIN_TIME) + time(TIMEOUT), time(DECISION_WAIT));
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
