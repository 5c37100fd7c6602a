//! Tests of docs/concepts.md: each idea leads to code and to a place that exists in Grafana.

use std::{collections::BTreeSet, fs};

use e2e::{dashboards::Dashboard, diagrams::Diagram};

use crate::helpers::root;

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// Returns the texts between single asterisks.
fn emphasized(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split('*').skip(1).step_by(2);
    parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
}

// proves: R12
#[test]
fn each_idea_names_its_code_and_where_to_see_it() {
    let mut names = BTreeSet::from(["References".to_owned(), "Logs".to_owned()]);
    for dashboard in Dashboard::all(root()).unwrap() {
        names.insert(dashboard.json()["title"].as_str().unwrap().to_owned());
        names.extend(dashboard.panels().map(|panel| panel.title().to_owned()));
    }
    let links = read("grafana/provisioning/datasources/stack.yaml");
    let start_page = read("bookapp/src/start_page/page.html");
    let concepts = read("docs/concepts.md");
    let ideas: Vec<_> = concepts.split("\n## ").skip(1).collect();
    assert!(ideas.len() > 10);
    for idea in ideas {
        let title = idea.lines().next().unwrap();
        if title == "Who does what" {
            continue; // a table of the components
        }
        assert!(idea.contains("\n- Code: "), "{title}: no code");
        assert!(idea.contains("\n- See it: "), "{title}: nothing to see");
        for seen in idea.split("\n- See it: ").skip(1) {
            let seen = seen.split("\n\n").next().unwrap();
            for name in emphasized(seen) {
                let exists = names.contains(&name)
                    || [&links, &start_page]
                        .iter()
                        .any(|file| file.contains(&name));
                assert!(exists, "{title}: {name} is no panel, link or button");
            }
        }
    }
}

// proves: R12
#[test]
fn each_component_is_explained() {
    let concepts = read("docs/concepts.md");
    let (_, table) = concepts.split_once("## Who does what").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    for component in [
        "Collector",
        "Prometheus",
        "Tempo",
        "Jaeger",
        "Loki",
        "Grafana",
        "Sentry",
    ] {
        assert!(table.contains(component), "{component}");
    }
}

// proves: L38
#[test]
fn the_diagram_of_the_layers_has_the_order_of_the_subscriber() {
    let subscriber = read("telemetry-common/src/subscriber.rs");
    let rows = subscriber
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "));
    let mut layers: Vec<_> = rows
        .skip(1)
        .map(|row| row.split_whitespace().next().unwrap().to_lowercase())
        .collect();
    layers.dedup(); // events and breadcrumbs of Sentry
    let concepts = read("docs/concepts.md");
    let (_, section) = concepts
        .split_once("## The subscriber and its layers")
        .unwrap();
    let [diagram] = Diagram::all(section).unwrap().try_into().unwrap();
    let mut part = "registry";
    for layer in layers {
        let arrow = (part.to_owned(), layer.clone());
        assert!(diagram.arrows.contains(&arrow), "{part} → {layer}");
        part = diagram.parts.get(&layer).unwrap();
    }
}

// proves: T4
#[test]
fn the_comparison_of_the_apis_shows_code_that_exists() {
    let page = read("docs/with-and-without.md");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sources = [
        "bookapp/src/books/service.rs",
        "examples/uservices/src/main.rs",
    ];
    let sources = sources.map(|path| words(&read(path)));
    let mut blocks = page.split("```rust\n").skip(1).peekable();
    assert!(blocks.peek().is_some());
    for block in blocks {
        let (code, _) = block.split_once("```").unwrap();
        let code = words(code);
        assert!(
            sources.iter().any(|source| source.contains(&code)),
            "{code}"
        );
    }
}
