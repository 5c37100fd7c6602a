//! Reads the alerts from Prometheus's rule files, and the runbooks, without a running stack.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// An alert of a rule file. An objective has two with the same name, of which one pages.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// The name.
    #[serde(rename = "alert")]
    pub name: String,
    /// The expression.
    pub expr: String,
    /// The labels that the rule adds.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The annotations, with their templates.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rule {
    Alert(Alert),
    Recording {},
}

impl Alert {
    /// Reads all alerts of the checkout at `root`.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let mut alerts = Vec::new();
        for folder in ["rules", "rules/objectives"] {
            for file in files(&root.join("stack/prometheus").join(folder), "yaml")? {
                let text = fs::read_to_string(&file)?;
                let file: File =
                    serde_yaml_ng::from_str(&text).with_context(|| file.display().to_string())?;
                let rules = file.groups.into_iter().flat_map(|group| group.rules);
                alerts.extend(rules.filter_map(|rule| match rule {
                    Rule::Alert(alert) => Some(alert),
                    Rule::Recording {} => None,
                }));
            }
        }
        Ok(alerts)
    }

    /// Returns an annotation for a service, as Prometheus expands it.
    pub fn annotation(&self, name: &str, service: &str) -> Option<String> {
        let text = self.annotations.get(name)?;
        Some(text.replace("{{ $labels.service_name }}", service))
    }
}

/// A runbook of `docs/runbooks/`.
#[derive(Clone, Debug)]
pub struct Runbook {
    /// The name of the alert.
    pub name: String,
    /// The text in Markdown.
    pub text: String,
}

impl Runbook {
    /// Reads all runbooks of the checkout at `root`.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let files = files(&root.join("docs/runbooks"), "md")?;
        let read = |file: &PathBuf| {
            let name = file.file_stem().context("a file without a name")?;
            Ok(Self {
                name: name.to_string_lossy().into_owned(),
                text: fs::read_to_string(file)?,
            })
        };
        files.iter().map(read).collect()
    }

    /// Returns the code blocks in this language, for example `promql`.
    pub fn blocks(&self, language: &str) -> impl Iterator<Item = &str> {
        let start = format!("{language}\n");
        let parts = self.text.split("```").collect::<Vec<_>>();
        let blocks = parts.into_iter().skip(1).step_by(2);
        blocks.filter_map(move |block| block.strip_prefix(&start).map(str::trim))
    }
}

/// Returns the files of a folder with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}
