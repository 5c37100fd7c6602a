//! The components with custom resources, on an API server that has the definitions of these resources.

use std::fs;

use anyhow::{Result, ensure};
use e2e::table::Table;

use super::cluster::{Cluster, TIMEOUT, module};

/// The components that are parts of an overlay.
pub(super) const OF_OVERLAYS: [&str; 3] = ["gateway-api", "keda", "prometheus-operator"];

/// The components that need custom resources: their Go module and the folder with its schemas, if there is one.
const COMPONENTS: [(&str, Option<(&str, &str)>); 5] = [
    (
        "gateway-api",
        Some(("sigs.k8s.io/gateway-api@v1.6.3", "config/crd/standard")),
    ),
    (
        "keda",
        Some(("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases")),
    ),
    (
        "prometheus-operator",
        Some((
            "github.com/prometheus-operator/prometheus-operator@v0.85.0",
            "example/prometheus-operator-crd",
        )),
    ),
    (
        "cloudnativepg",
        Some((
            "github.com/cloudnative-pg/cloudnative-pg@v1.29.0",
            "config/crd/bases",
        )),
    ),
    ("strimzi", None),
];

/// Applies each component after the definitions of its resources.
pub(super) fn check(cluster: &Cluster, table: &mut Table) {
    for (name, schemas) in COMPONENTS {
        match schemas {
            None => table.not_run("components", name, "no package registry has its schema"),
            Some((go_module, folder)) => {
                table.check(
                    "components",
                    name,
                    component(cluster, name, go_module, folder),
                );
            }
        }
    }
    let _ = cluster
        .kubectl
        .output(&["delete", "namespace", "bookapp", TIMEOUT]);
}

fn component(cluster: &Cluster, name: &str, go_module: &str, folder: &str) -> Result<String> {
    let folder = module(go_module)?.join(folder);
    let mut definitions = 0;
    for file in fs::read_dir(folder)? {
        let text = fs::read_to_string(file?.path())?;
        if text.contains("kind: CustomResourceDefinition") {
            cluster.apply(&text)?;
            definitions += 1;
        }
    }
    let wait = [
        "wait",
        "crd",
        "--all",
        "--for=condition=Established",
        TIMEOUT,
    ];
    cluster.kubectl.output(&wait)?;
    cluster.add_namespace()?;
    let warnings = cluster.apply(&cluster.kubectl.render_component(name)?.text)?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(format!(
        "accepted, with {definitions} definitions of {go_module}"
    ))
}
