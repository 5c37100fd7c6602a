//! Tests of the collector's configuration files.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::helpers::{environment, root, services, strings, yaml};

/// The files of the one collector for all signals.
const FILES: [&str; 3] = ["base", "core", "infrastructure"];

/// What the collector of docker compose is: one for all signals, or an agent.
const FORM: &str = "${COLLECTOR_FORM:-core}";
const FORMS: [&str; 2] = ["core", "agent"];

fn file(name: &str) -> Value {
    yaml(&format!("otel-collector/{name}.yaml"))
}

#[test]
fn required_collector_variables_are_set_and_set_ones_are_used() {
    let mut collectors = 0;
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        if !image.starts_with("otel/opentelemetry-collector") {
            continue;
        }
        let files = strings(&service["command"])
            .into_iter()
            .flat_map(|argument| {
                let file = argument.rsplit('/').next().unwrap();
                FORMS.map(|form| file.replace(FORM, form))
            });
        let files: BTreeSet<_> = files.collect();
        let folder = root().join("otel-collector");
        let text: String = files
            .iter()
            .map(|file| fs::read_to_string(folder.join(file)).unwrap())
            .collect();
        let mut known = BTreeSet::new();
        let mut needed = BTreeSet::new();
        for variable in text.split("${env:").skip(1) {
            let variable = variable.split('}').next().unwrap();
            known.insert(variable.split(":-").next().unwrap());
            if !variable.contains(":-") {
                needed.insert(variable);
            }
        }
        let set = BTreeSet::from_iter(environment(&service));
        assert!(needed.is_subset(&set), "{name}: {needed:?}");
        let mut unknown = set.difference(&known);
        assert_eq!(unknown.find(|name| **name != "GOMEMLIMIT"), None, "{name}");
        collectors += 1;
    }
    assert_eq!(collectors, 4);
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
    let mut pipelines = BTreeSet::new();
    let mut declared = BTreeSet::new();
    let mut used = BTreeSet::new();
    for file in FILES.map(file) {
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
        let of_file = file["service"]["pipelines"].as_object();
        for (pipeline, components) in of_file.into_iter().flatten() {
            assert!(
                pipelines.insert(pipeline.clone()),
                "{pipeline} is in two files"
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
    let (core, vendor) = (file("core"), file("vendor"));
    for (pipeline, components) in vendor["service"]["pipelines"].as_object().unwrap() {
        let mut exporters = component_names(&core["service"]["pipelines"][pipeline]["exporters"]);
        exporters.push("otlp_http/vendor");
        assert_eq!(strings(&components["exporters"]), exporters, "{pipeline}");
    }
}

// proves: N29
#[test]
fn a_gateway_names_itself_in_all_series_that_it_derives() {
    let (core, gateway) = (file("core"), file("gateway"));
    for (pipeline, components) in core["service"]["pipelines"].as_object().unwrap() {
        let receivers = component_names(&components["receivers"]);
        let is_derived = pipeline.starts_with("metrics/") && receivers != ["otlp"];
        let own = &gateway["service"]["pipelines"][pipeline];
        assert_eq!(!own.is_null(), is_derived, "{pipeline}");
        if is_derived {
            let mut processors = component_names(&components["processors"]);
            processors.push("transform/gateway");
            assert_eq!(
                component_names(&own["processors"]),
                processors,
                "{pipeline}"
            );
        }
    }
}
