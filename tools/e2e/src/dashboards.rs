//! Grafana's dashboards and data sources, read from their files: no Grafana runs here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

/// One of `grafana/dashboards/`.
pub struct Dashboard(Value);

/// A panel with its queries.
pub struct Panel<'d>(&'d Value);

/// What a panel, or a link, asks a data source.
pub struct Query {
    /// The data source's uid.
    pub source: String,
    /// What it is asked, with the variables of dashboard and Grafana in it.
    pub text: String,
    /// Whether it is no question in words but Tempo's service graph.
    pub is_graph: bool,
}

impl Dashboard {
    /// All of them, of the checkout at `root`.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let folder = fs::read_dir(root.join("grafana/dashboards"))?;
        let mut files: Vec<PathBuf> = folder
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file)?;
            let dashboard = serde_json::from_str(&text);
            Ok(Self(dashboard.with_context(|| file.display().to_string())?))
        };
        files.iter().map(read).collect()
    }

    /// What links name it by.
    pub fn uid(&self) -> &str {
        text(&self.0, "uid")
    }

    /// The panels, rows left out.
    pub fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let panels = self.0["panels"].as_array().into_iter().flatten();
        panels.filter(|panel| panel["type"] != "row").map(Panel)
    }

    /// Each variable with the query that fills it: `label_values(metric, label)`.
    pub fn variables(&self) -> BTreeMap<&str, &str> {
        let variables = self.0["templating"]["list"].as_array().into_iter();
        let variables = variables.flatten();
        variables
            .map(|variable| (text(variable, "name"), text(variable, "query")))
            .collect()
    }

    /// The whole, as it is written.
    pub fn json(&self) -> &Value {
        &self.0
    }
}

impl Panel<'_> {
    /// What stands above it.
    pub fn title(&self) -> &str {
        text(self.0, "title")
    }

    /// What it says of itself.
    pub fn description(&self) -> &str {
        text(self.0, "description")
    }

    /// Whether it shows no data but words.
    pub fn is_text(&self) -> bool {
        self.0["type"] == "text"
    }

    /// What it asks.
    pub fn queries(&self) -> Vec<Query> {
        let targets = self.0["targets"].as_array().into_iter().flatten();
        let source = text(&self.0["datasource"], "uid");
        targets.map(|target| Query::of(source, target)).collect()
    }
}

impl Query {
    fn of(source: &str, target: &Value) -> Self {
        let text = target["expr"].as_str().or(target["query"].as_str());
        Self {
            source: source.to_owned(),
            text: text.unwrap_or_default().to_owned(),
            is_graph: target["queryType"] == "serviceMap",
        }
    }
}

/// The provisioned data sources, with what is between them.
pub fn data_sources(root: &Path) -> Result<Vec<Value>> {
    let file = root.join("grafana/provisioning/datasources/stack.yaml");
    // As Grafana reads it, two dollar signs are one.
    let text = fs::read_to_string(file)?.replace("$$", "$");
    let read: Value = serde_yaml_ng::from_str(&text)?;
    Ok(read["datasources"].as_array().cloned().unwrap_or_default())
}

/// The links from a data source's results to queries of another, by their labels.
pub fn links(source: &Value) -> Vec<(String, Query)> {
    let correlations = source["correlations"].as_array().into_iter().flatten();
    let queries = correlations.filter(|link| link["type"] == "query");
    let mut links: Vec<_> = queries
        .map(|link| {
            let query = Query::of(text(link, "targetUID"), &link["config"]["target"]);
            (text(link, "label").to_owned(), query)
        })
        .collect();
    let settings = &source["jsonData"];
    for (label, to) in [("logs", "tracesToLogsV2"), ("metrics", "tracesToMetrics")] {
        let to = &settings[to];
        let several = to["queries"].as_array().into_iter().flatten();
        for query in several.chain(Some(to).filter(|to| to["query"].is_string())) {
            let label = format!("{label} of a span {}", text(query, "name"));
            let query = Query::of(text(to, "datasourceUid"), query);
            links.push((label.trim_end().to_owned(), query));
        }
    }
    links
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
