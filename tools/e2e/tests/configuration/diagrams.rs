//! Tests of the diagrams in README.md: they show the parts that exist, and how they are connected.

use std::{collections::BTreeSet, fs};

use e2e::diagrams::Diagram;

use crate::helpers::{root, services, yaml};

/// Returns the diagrams of architecture, pipeline and request.
fn diagrams() -> [Diagram; 3] {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    Diagram::all(&readme).unwrap().try_into().unwrap()
}

fn targets<'d>(diagram: &'d Diagram, part: &str) -> BTreeSet<&'d str> {
    let arrows = diagram.arrows.iter().filter(|(from, _)| from == part);
    arrows.map(|(_, to)| to.as_str()).collect()
}

// proves: B23
#[test]
fn every_part_of_a_diagram_is_a_service_of_compose() {
    let services = services();
    for diagram in diagrams() {
        assert!(!diagram.parts.is_empty());
        for part in diagram.parts {
            assert!(part == "user" || services.contains_key(&part), "{part}");
        }
    }
}

// proves: B23
#[test]
fn a_request_takes_the_ways_of_the_architecture() {
    let [architecture, _, request] = diagrams();
    assert!(request.is_sequence);
    let unknown: Vec<_> = request.arrows.difference(&architecture.arrows).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

// proves: B23
#[test]
fn the_pipeline_is_the_one_that_is_configured() {
    let [_, pipeline, _] = diagrams();
    let core = yaml("otel-collector/core.yaml");
    let exporters = core["exporters"].as_object().unwrap().keys();
    let backends = exporters.map(|exporter| exporter.split('/').nth(1).unwrap());
    assert_eq!(
        targets(&pipeline, "otel-collector"),
        backends.collect(),
        "the collector's exporters"
    );
    let sources = yaml("grafana/provisioning/datasources/stack.yaml");
    let sources = sources["datasources"].as_array().unwrap().iter();
    assert_eq!(
        targets(&pipeline, "grafana"),
        sources
            .map(|source| source["type"].as_str().unwrap())
            .collect(),
        "Grafana's data sources"
    );
    let services = services();
    for service in ["bookapp", "backend"] {
        for (target, variable) in [
            ("otel-collector", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("bugsink", "SENTRY_DSN"),
        ] {
            assert!(targets(&pipeline, service).contains(target));
            let address = &services[service]["environment"][variable];
            assert!(address.as_str().unwrap().contains(target), "{address}");
        }
    }
}
