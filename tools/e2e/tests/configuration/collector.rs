//! Tests of the collector's configuration files.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::helpers::{environment, root, services, strings, yaml};

#[test]
fn required_collector_variables_are_set_and_set_ones_are_used() {
    let files = [
        "otel-collector/core.yaml",
        "otel-collector/infrastructure.yaml",
    ];
    let text = files
        .map(|file| fs::read_to_string(root().join(file)).unwrap())
        .concat();
    let mut known = BTreeSet::new();
    let mut needed = BTreeSet::new();
    for variable in text.split("${env:").skip(1) {
        let variable = variable.split('}').next().unwrap();
        known.insert(variable.split(":-").next().unwrap());
        if !variable.contains(":-") {
            needed.insert(variable);
        }
    }
    let services = services();
    let set = BTreeSet::from_iter(environment(&services["otel-collector"]));
    assert!(needed.is_subset(&set), "{needed:?}");
    let unknown: Vec<_> = set
        .difference(&known)
        .filter(|name| **name != "GOMEMLIMIT")
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Returns the components in a list of a pipeline. The list may be the default of a variable.
fn component_names(list: &Value) -> Vec<&str> {
    let Some(variable) = list.as_str() else {
        return strings(list);
    };
    let (_, names) = variable.split_once(":-[").unwrap();
    names.trim_end_matches("]}").split(", ").collect()
}

#[test]
fn the_image_and_the_native_collector_are_one_version() {
    let builder = yaml("otel-collector/builder.yaml");
    let native = builder["dist"]["version"].as_str().unwrap();
    let image = services()["otel-collector"]["image"].clone();
    assert!(image.as_str().unwrap().ends_with(&format!(":{native}")));
}

#[test]
fn the_collector_s_files_share_no_list_and_use_all_they_declare() {
    let core = yaml("otel-collector/core.yaml");
    let infrastructure = yaml("otel-collector/infrastructure.yaml");
    let mut pipelines = BTreeSet::new();
    let mut declared = BTreeSet::new();
    let mut used = BTreeSet::new();
    for file in [&core, &infrastructure] {
        for kind in [
            "receivers",
            "processors",
            "connectors",
            "exporters",
            "extensions",
        ] {
            for (name, _) in file[kind].as_object().into_iter().flatten() {
                assert!(
                    declared.insert((kind, name.clone())),
                    "{name} is declared twice"
                );
            }
        }
        for name in strings(&file["service"]["extensions"]) {
            used.insert(name.to_owned());
        }
        for (pipeline, components) in file["service"]["pipelines"].as_object().unwrap() {
            assert!(
                pipelines.insert(pipeline.clone()),
                "{pipeline} is in both files"
            );
            for component in ["receivers", "processors", "exporters"] {
                let names = component_names(&components[component]);
                used.extend(names.into_iter().map(str::to_owned));
            }
            let first = strings(&components["processors"])[0];
            assert!(
                first == "memory_limiter" || first == "tail_sampling",
                "{pipeline}: {first}"
            );
        }
    }
    // The variable TRACES_EXPORTERS can list it.
    used.insert("otlp_grpc/jaeger".to_owned());
    for (kind, name) in declared {
        assert!(
            used.contains(&name),
            "{kind}: {name} is declared and not used"
        );
    }
}

#[test]
fn a_vendor_receives_the_signals_in_addition_to_the_stack() {
    let core = yaml("otel-collector/core.yaml");
    let vendor = yaml("otel-collector/vendor.yaml");
    for (pipeline, components) in vendor["service"]["pipelines"].as_object().unwrap() {
        let mut exporters = component_names(&core["service"]["pipelines"][pipeline]["exporters"]);
        exporters.push("otlp_http/vendor");
        assert_eq!(strings(&components["exporters"]), exporters, "{pipeline}");
    }
}
