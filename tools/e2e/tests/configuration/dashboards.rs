//! Tests of the dashboard and data source files without Grafana. `cargo xtask e2e` checks that each
//! query returns data.

use std::collections::BTreeSet;

use e2e::dashboards::{Dashboard, data_sources, links};
use serde_json::Value;

use crate::helpers::root;

fn dashboards() -> Vec<Dashboard> {
    let dashboards = Dashboard::all(root()).unwrap();
    assert!(dashboards.len() >= 7);
    dashboards
}

fn uids() -> BTreeSet<String> {
    let sources = data_sources(root()).unwrap();
    let uids = sources.iter().map(|source| source["uid"].as_str().unwrap());
    uids.map(str::to_owned).collect()
}

/// Collects every value with one of these keys, at any depth.
fn collect_values<'v>(value: &'v Value, keys: &[&str], found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if keys.contains(&&**key) {
                    found.push(value);
                }
                collect_values(value, keys, found);
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_values(value, keys, found)),
        _ => {}
    }
}

// proves: R5 N20
#[test]
fn every_panel_has_a_description_and_an_existing_data_source() {
    let (uids, mut panels) = (uids(), 0);
    for dashboard in dashboards() {
        for panel in dashboard.panels().filter(|panel| !panel.is_text()) {
            let location = format!("{}: {}", dashboard.uid(), panel.title());
            assert!(
                !panel.title().is_empty() && !panel.description().is_empty(),
                "{location}"
            );
            let queries = panel.queries();
            assert!(!queries.is_empty(), "{location} has no query");
            for query in queries {
                assert!(uids.contains(&query.source), "{location}: {}", query.source);
                assert!(
                    query.is_service_graph || !query.text.is_empty(),
                    "{location}"
                );
            }
            panels += 1;
        }
    }
    assert!(panels > 70, "{panels}");
}

// proves: N20
#[test]
fn every_variable_is_declared_and_used_and_no_instance_is_named() {
    for dashboard in dashboards() {
        let variables = dashboard.variables();
        let queries: Vec<_> = dashboard
            .panels()
            .flat_map(|panel| panel.queries())
            .map(|query| query.text)
            .collect();
        for query in &queries {
            let named = query.split('$').skip(1).map(|rest| {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                &rest[..end.unwrap_or(rest.len())]
            });
            for name in named.filter(|name| !name.starts_with("__")) {
                assert!(variables.contains_key(name), "{}: ${name}", dashboard.uid());
            }
            let instance_filters = ["instance", "127.0.0.1", "localhost", "host_name="];
            let found = instance_filters.iter().find(|word| query.contains(**word));
            assert_eq!(found, None, "{}: {query}", dashboard.uid());
        }
        for variable in variables.keys() {
            let used = queries
                .iter()
                .any(|query| query.contains(&format!("${variable}")));
            assert!(used, "{}: ${variable} is not used", dashboard.uid());
        }
    }
}

#[test]
fn every_dashboard_link_has_a_target_and_home_links_to_all() {
    let known: BTreeSet<_> = dashboards()
        .iter()
        .map(|one| one.uid().to_owned())
        .collect();
    assert!(
        known.contains("home"),
        "Grafana opens it as the home dashboard"
    );
    let mut linked = BTreeSet::new();
    for dashboard in dashboards() {
        let text = dashboard.json().to_string();
        for link in text.split("(/d/").skip(1) {
            linked.insert(link.split([')', '?', '/']).next().unwrap().to_owned());
        }
    }
    assert!(linked.is_subset(&known), "{linked:?}");
    // The home dashboard links to every other one.
    assert_eq!(linked.len() + 1, known.len(), "{linked:?}");
}

// proves: N22 B12
#[test]
fn every_signal_links_to_every_other() {
    let (sources, uids) = (data_sources(root()).unwrap(), uids());
    for source in &sources {
        let mut named = Vec::new();
        collect_values(source, &["datasourceUid", "targetUID"], &mut named);
        for uid in named {
            assert!(uids.contains(uid.as_str().unwrap()), "{uid}");
        }
    }
    let source = |uid: &str| sources.iter().find(|source| source["uid"] == uid).unwrap();
    let (tempo, loki, prometheus) = (source("tempo"), source("loki"), source("prometheus"));
    let settings = &tempo["jsonData"];
    assert_eq!(settings["tracesToLogsV2"]["datasourceUid"], "loki");
    assert_eq!(settings["tracesToMetrics"]["datasourceUid"], "prometheus");
    assert_eq!(settings["serviceMap"]["datasourceUid"], "prometheus");
    assert_eq!(
        loki["jsonData"]["derivedFields"][0]["datasourceUid"],
        "tempo"
    );
    let exemplars = &prometheus["jsonData"]["exemplarTraceIdDestinations"][0];
    assert_eq!(exemplars["datasourceUid"], "tempo");
    let consumers = links(tempo)
        .into_iter()
        .find(|(label, _)| label == "Consumers of this message");
    let (_, consumers) = consumers.unwrap();
    assert_eq!(consumers.source, "tempo");
    assert_eq!(consumers.text, r#"{ link:traceID = "${linked}" }"#);
    let correlations = tempo["correlations"].as_array().unwrap();
    let external = correlations.iter().find(|link| link["type"] == "external");
    let url = external.unwrap()["config"]["target"]["url"]
        .as_str()
        .unwrap();
    // Bugsink's issue list, filtered by the trace id tag of the events.
    assert_eq!(
        url,
        "http://localhost:8002/issues/1/?q=otel.trace_id:${traceID}#${event}"
    );
}

// proves: N29
#[test]
fn queries_of_derived_metrics_add_up_the_gateways() {
    let derived = [
        "traces_span_metrics_",
        "traces_service_graph_",
        "bookapp_spans_received",
        "bookapp_log_errors",
        "bookapp_exceptions",
    ];
    let mut found = 0;
    for dashboard in dashboards() {
        for query in dashboard.panels().flat_map(|panel| panel.queries()) {
            if derived.iter().any(|metric| query.text.contains(metric)) {
                assert!(query.text.contains("sum"), "{}", query.text);
                found += 1;
            }
        }
    }
    assert!(found > 3, "{found}");
}
