//! Reads Grafana's dashboards and data sources from their files, without a running Grafana.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

/// A dashboard from `grafana/dashboards/`.
pub struct Dashboard(Value);

/// A panel of a dashboard.
pub struct Panel<'d>(&'d Value);

/// A query of a panel or of a link.
pub struct Query {
    /// The uid of the data source.
    pub source: String,
    /// The query text, with unresolved dashboard and Grafana variables.
    pub text: String,
    /// Whether this is Tempo's service graph, which has no query text.
    pub is_service_graph: bool,
}

impl Dashboard {
    /// Reads all dashboards of the checkout at `root`.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let folder = fs::read_dir(root.join("grafana/dashboards"))?;
        let mut files: Vec<PathBuf> = folder
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        // The folder with the dashboards of runbooks has no panel of its own.
        files.retain(|file| file.is_file());
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file)?;
            let dashboard = serde_json::from_str(&text);
            Ok(Self(dashboard.with_context(|| file.display().to_string())?))
        };
        files.iter().map(read).collect()
    }

    /// Returns the uid, which links use.
    pub fn uid(&self) -> &str {
        text(&self.0, "uid")
    }

    /// Returns the panels without the rows.
    pub fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let panels = self.0["panels"].as_array().into_iter().flatten();
        panels.filter(|panel| panel["type"] != "row").map(Panel)
    }

    /// Returns each variable with its query, `label_values(metric, label)`.
    pub fn variables(&self) -> BTreeMap<&str, &str> {
        let variables = self.0["templating"]["list"].as_array().into_iter();
        let variables = variables.flatten();
        variables
            .map(|variable| (text(variable, "name"), text(variable, "query")))
            .collect()
    }

    /// Returns the complete JSON document.
    pub fn json(&self) -> &Value {
        &self.0
    }
}

impl Panel<'_> {
    /// Returns the title.
    pub fn title(&self) -> &str {
        text(self.0, "title")
    }

    /// Returns the description.
    pub fn description(&self) -> &str {
        text(self.0, "description")
    }

    /// Returns whether this is a text panel, which has no queries.
    pub fn is_text(&self) -> bool {
        self.0["type"] == "text"
    }

    /// Returns the queries.
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
            is_service_graph: target["queryType"] == "serviceMap",
        }
    }
}

/// Reads the provisioned data sources with their links and correlations.
pub fn data_sources(root: &Path) -> Result<Vec<Value>> {
    let file = root.join("grafana/provisioning/datasources/stack.yaml");
    // Grafana's provisioning reads `$$` as one dollar sign.
    let text = fs::read_to_string(file)?.replace("$$", "$");
    let document: Value = serde_yaml_ng::from_str(&text)?;
    let sources = document["datasources"].as_array();
    Ok(sources.cloned().unwrap_or_default())
}

/// Returns the links from a data source's results to queries of another data source, with their
/// labels.
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
    for (label, target) in [("logs", "tracesToLogsV2"), ("metrics", "tracesToMetrics")] {
        let target = &settings[target];
        let several = target["queries"].as_array().into_iter().flatten();
        for query in several.chain(Some(target).filter(|target| target["query"].is_string())) {
            let label = format!("{label} of a span {}", text(query, "name"));
            let query = Query::of(text(target, "datasourceUid"), query);
            links.push((label.trim_end().to_owned(), query));
        }
    }
    links
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
