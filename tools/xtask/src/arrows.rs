//! Checks the dependencies between the crates against the arrows in ARCHITECTURE.md.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo;

/// Each crate with the workspace crates on which it may depend. Dev-dependencies are not checked.
const ALLOWED: [(&str, &[&str]); 18] = [
    (
        "backend",
        &["book-events", "service-common", "telemetry-common"],
    ),
    ("backend-client", &["telemetry-common"]),
    ("baseline", &["book-events"]),
    ("book-events", &[]),
    (
        "bookapp",
        &[
            "backend-client",
            "book-events",
            "service-common",
            "telemetry-common",
        ],
    ),
    ("demo", &["backend", "bookapp", "otlp-viewer", "testbed"]),
    ("e2e", &["telemetry-registry", "testbed"]),
    ("grpc", &["telemetry-common"]),
    ("hello", &["telemetry-common"]),
    ("otlp-viewer", &[]),
    ("service-common", &["telemetry-common"]),
    ("shop", &["telemetry-common"]),
    ("telemetry-common", &[]),
    ("telemetry-registry", &["testbed"]),
    ("testbed", &["book-events", "otlp-viewer"]),
    ("uservices", &[]),
    ("worker", &["telemetry-common"]),
    ("xtask", &["e2e", "telemetry-registry", "testbed"]),
];

pub(crate) fn check() -> Result<()> {
    let metadata = cargo::output(&["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(from, _)| *from == name)
            .with_context(|| {
                format!("{name} has no list of allowed dependencies: add it in tools/xtask/src/arrows.rs")
            })?;
        let found: BTreeSet<_> = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["path"].is_string() && dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        let forbidden: Vec<_> = found.iter().filter(|to| !allowed.contains(to)).collect();
        ensure!(
            forbidden.is_empty(),
            "{name} must not depend on {forbidden:?}"
        );
    }
    Ok(())
}
