//! Tests of alerts and runbooks: each alert is complete and has a runbook, and nothing that they refer to is
//! missing. `cargo xtask stack check` tests when they fire, `cargo xtask e2e` their queries.

use std::{collections::BTreeSet, fs};

use e2e::{
    alerts::{Alert, Runbook},
    dashboards::Dashboard,
};

use crate::helpers::root;

/// The title of a runbook's section, in the order of a runbook.
const SECTIONS: [&str; 6] = [
    "Impact",
    "First look",
    "Likely causes",
    "Remedy",
    "Reproduce",
    "Over",
];

fn alerts() -> Vec<Alert> {
    Alert::all(root()).unwrap()
}

/// Returns the paths of all dashboards, also those of runbooks, as in a link.
fn dashboards() -> BTreeSet<String> {
    let uids = Dashboard::all(root()).unwrap();
    let uids = uids.iter().map(|dashboard| dashboard.uid().to_owned());
    let runbooks = fs::read_dir(root().join("grafana/dashboards/runbooks")).unwrap();
    let runbooks = runbooks.map(|file| file.unwrap().path().file_stem().unwrap().to_owned());
    let runbooks = runbooks.map(|name| name.into_string().unwrap());
    uids.chain(runbooks)
        .map(|uid| format!("/d/{uid}"))
        .collect()
}

// proves: B29 N14
#[test]
fn every_alert_is_complete_and_its_links_exist() {
    let dashboards = dashboards();
    let alerts = alerts();
    assert!(alerts.len() > 30);
    for alert in &alerts {
        let name = &alert.name;
        let severity = alert.labels["severity"].as_str();
        assert!(
            ["page", "ticket", "none"].contains(&severity),
            "{name}: {severity}"
        );
        for text in ["summary", "impact", "traces", "logs"] {
            let text = alert.annotations.get(text);
            assert!(text.is_some_and(|text| text.len() > 3), "{name}");
        }
        for link in ["dashboard", "runbook"] {
            let link = alert.annotations[link].split('?').next().unwrap();
            assert!(dashboards.contains(link), "{name}: {link} is no dashboard");
        }
        let runbook = format!("/d/runbook-{}", name.to_lowercase());
        assert_eq!(alert.annotations["runbook"], runbook, "{name}");
        // Prometheus reports `vector cannot contain metrics with the same labelset` for a function of
        // several metrics.
        assert!(!alert.expr.contains("increase({__name__=~"), "{name}");
    }
}

// proves: N14
#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = alerts();
    let alerts: BTreeSet<_> = alerts.iter().map(|alert| &*alert.name).collect();
    let runbooks = Runbook::all(root()).unwrap();
    let names: BTreeSet<_> = runbooks.iter().map(|runbook| &*runbook.name).collect();
    assert_eq!(alerts, names);
    for Runbook { name, text } in &runbooks {
        assert!(text.starts_with(&format!("# {name}\n\n")), "{name}");
        let sections = text.lines().filter_map(|line| line.strip_prefix("## "));
        assert_eq!(sections.collect::<Vec<_>>(), SECTIONS, "{name}");
    }
}

#[test]
fn every_link_of_a_runbook_exists() {
    let dashboards = dashboards();
    let alerts = alerts();
    let alerts: BTreeSet<_> = alerts.iter().map(|alert| &*alert.name).collect();
    let mut links = 0;
    for runbook in Runbook::all(root()).unwrap() {
        let name = &runbook.name;
        for link in runbook.text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let path = link.strip_prefix("http://localhost:3000");
            let path = path.unwrap_or_else(|| panic!("{name}: {link}"));
            let path = path.split('?').next().unwrap();
            assert!(dashboards.contains(path), "{name}: {link} is no dashboard");
            links += 1;
        }
        for code in runbook.text.split('`').skip(1).step_by(2) {
            let is_file = code.starts_with("docs/") || code.starts_with("otel-collector/");
            assert!(!is_file || root().join(code).exists(), "{name}: {code}");
        }
        for alert in named_alerts(&runbook.text) {
            assert!(alerts.contains(alert), "{name}: {alert} is no alert");
        }
    }
    assert!(links > 20);
}

/// Returns the names in camel case that a text calls alerts: before `is active`, `was active`, `follows` and
/// `or`, and after `runbook`, `follow` and `or`.
fn named_alerts(text: &str) -> BTreeSet<&str> {
    let words: Vec<_> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let is_name = |word: &&str| {
        let mut letters = word.chars();
        letters.next().is_some_and(char::is_uppercase)
            && letters.clone().any(char::is_uppercase)
            && letters.any(char::is_lowercase)
            && !["PostgreSQL", "OOMKilled", "MessageSizeTooLarge"].contains(word)
    };
    let names = words.windows(2).filter_map(|pair| match pair {
        [name, "is" | "was" | "follows" | "or"] | ["follow" | "runbook" | "or", name] => {
            Some(*name)
        }
        _ => None,
    });
    names.filter(is_name).collect()
}

// proves: N14
#[test]
fn every_alert_is_tested_silent_and_firing() {
    let mut tests = String::new();
    for file in fs::read_dir(root().join("stack/prometheus/tests")).unwrap() {
        tests += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    for alert in alerts() {
        let name = format!("alertname=\"{}\"", alert.name);
        let severity = format!("severity=\"{}\"", alert.labels["severity"]);
        let expected = tests
            .lines()
            .filter(|line| line.contains("exp_samples") && line.contains(&name));
        let (silent, firing): (Vec<_>, Vec<_>) =
            expected.partition(|line| line.contains("exp_samples: []"));
        let fires = firing.iter().any(|line| line.contains(&severity));
        assert!(fires, "{}: no test fires with {severity}", alert.name);
        assert!(
            alert.name == "Watchdog" || !silent.is_empty(),
            "{}: never silent",
            alert.name
        );
    }
}
