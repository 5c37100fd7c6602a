//! The settings that the programs in the manifests know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::Result;

use crate::cargo;

/// The names of the environment variables that each container reads.
pub(in crate::kubernetes) struct Known(BTreeMap<&'static str, BTreeSet<String>>);

impl Known {
    /// Returns the settings of both services, from their `--help`, and of the collectors.
    pub(in crate::kubernetes) fn new() -> Result<Self> {
        let (bookapp, collectors) = (of_service("bookapp")?, of_collectors()?);
        Ok(Self(BTreeMap::from([
            ("migrations", bookapp.clone()),
            ("bookapp", bookapp),
            ("backend", of_service("backend")?),
            ("otel-agent", collectors.clone()),
            ("otel-gateway", collectors.clone()),
            ("otel-reader", collectors),
        ])))
    }

    /// Returns the settings of a container of this project.
    pub(super) fn get(&self, container: &str) -> Option<&BTreeSet<String>> {
        self.0.get(container)
    }
}

fn of_service(service: &str) -> Result<BTreeSet<String>> {
    let help = cargo::output(&["run", "--quiet", "--package", service, "--", "--help"])?;
    let names = help.split("[env: ").skip(1);
    let names = names.filter_map(|rest| rest.split(['=', ']']).next());
    // The exporters of OTLP and of metrics read them.
    let names = names.chain(["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_METRIC_EXPORT_INTERVAL"]);
    Ok(names.map(str::to_owned).collect())
}

/// Returns the variables in the configuration files of the collector.
fn of_collectors() -> Result<BTreeSet<String>> {
    // The Go runtime reads it.
    let mut names = BTreeSet::from(["GOMEMLIMIT".to_owned()]);
    for file in fs::read_dir("otel-collector")? {
        let path = file?.path();
        if path.is_file() {
            let text = fs::read_to_string(path)?;
            let variables = text.split("${env:").skip(1);
            let variables = variables.filter_map(|rest| rest.split(['}', ':']).next());
            names.extend(variables.map(str::to_owned));
        }
    }
    Ok(names)
}
