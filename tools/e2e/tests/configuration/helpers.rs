//! The configuration files as JSON values.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Reads a YAML file of this repository, with its merge keys resolved.
pub(crate) fn yaml(file: &str) -> Value {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    // A merged mapping can itself contain a merge key, so resolve merge keys twice.
    value.apply_merge().unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

/// Returns the services of docker-compose.yaml by name.
pub(crate) fn services() -> BTreeMap<String, Value> {
    let compose = yaml("docker-compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let services = services.iter();
    services
        .map(|(name, service)| (name.clone(), service.clone()))
        .collect()
}

/// Returns the strings in a list. A missing list is empty.
pub(crate) fn strings(list: &Value) -> Vec<&str> {
    let values = list.as_array().into_iter().flatten();
    values.filter_map(Value::as_str).collect()
}

/// Returns the names of the environment variables of a service.
pub(crate) fn environment(service: &Value) -> Vec<&str> {
    let names = service["environment"].as_object().unwrap().keys();
    names.map(String::as_str).collect()
}
