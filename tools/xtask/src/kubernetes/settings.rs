//! The settings of the programs in the manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::Result;

use crate::cargo;

/// The names of the environment variables that each container reads.
pub(super) type Settings = BTreeMap<&'static str, BTreeSet<String>>;

/// Returns the settings of both services, from their `--help`, and of the collectors.
pub(super) fn known() -> Result<Settings> {
    let of_service = |service| {
        let help = cargo::output(&["run", "--quiet", "--package", service, "--", "--help"])?;
        let names = help.split("[env: ").skip(1);
        let names = names.filter_map(|rest| rest.split(['=', ']']).next());
        // The OTLP exporters read it.
        let names = names.chain(["OTEL_EXPORTER_OTLP_ENDPOINT"]);
        Ok((service, names.map(str::to_owned).collect()))
    };
    let services = ["bookapp", "backend"].into_iter().map(of_service);
    let collectors = ["otel-agent", "otel-gateway", "otel-reader"].into_iter();
    let collectors = collectors.map(|name| Ok((name, of_collectors()?)));
    services.chain(collectors).collect()
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
