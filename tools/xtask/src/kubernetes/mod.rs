//! Checks the manifests in `deploy/kubernetes/`: by schemas and policies, and on a real API server.
#![expect(
    clippy::print_stdout,
    reason = "the table is the output of the command"
)]

mod cluster;
mod components;
mod manifests;
mod planted;
mod policies;
mod rollout;
mod server;
mod values;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result, ensure};
use e2e::table::Table;
use tokio::runtime::Runtime;

use self::{
    cluster::Cluster,
    manifests::{Kubectl, OVERLAYS, Overlay},
};
use crate::{
    step,
    tools::{execute, python_tool},
};

#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Validate each overlay by the schemas of Kubernetes and by the policies of this project.
    Check,
    /// Start a control plane with simulated nodes, apply an overlay, and run until Ctrl-C.
    Up {
        #[command(flatten)]
        tools: Tools,

        /// The overlay to apply.
        #[arg(default_value = "local")]
        overlay: String,
    },
    /// Apply each overlay to a control plane with simulated nodes, and try what a cluster does with it.
    Test(Tools),
    /// Stop the control plane that `up` has started.
    Down,
}

#[derive(clap::Args)]
pub(crate) struct Tools {
    /// The folder with `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `etcd` and `kwok`.
    #[arg(long, env, value_name = "FOLDER")]
    kubernetes_bin: Option<PathBuf>,
}

impl Tools {
    fn binaries(&self) -> Result<&PathBuf> {
        let hint = "set KUBERNETES_BIN to the folder with the control plane; docs/kubernetes.md says how to build it";
        self.kubernetes_bin.as_ref().context(hint)
    }
}

pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Check => check(),
        Action::Up { tools, overlay } => Runtime::new()?.block_on(up(tools, overlay)),
        Action::Test(tools) => Runtime::new()?.block_on(test(tools)),
        Action::Down => down(),
    }
}

/// Checks all overlays without a cluster, and that the checks find planted faults.
fn check() -> Result<()> {
    let kubectl = Kubectl::installed()?;
    let validator = python_tool("kubernetes-validate")?;
    let known = policies::Known::new()?;
    let mut found = BTreeSet::new();
    for name in OVERLAYS {
        step(&format!("overlay {name}"));
        let check = |overlay: &Overlay| {
            overlay.validate(&validator)?;
            policies::check(overlay, &known)
        };
        let faults = planted::check(&kubectl.render(name)?, &planted::FAULTS, check);
        found.extend(faults.with_context(|| format!("overlay {name}"))?);
    }
    for name in components::OF_OVERLAYS {
        step(&format!("production with the component {name}"));
        let check = |overlay: &Overlay| policies::check(overlay, &known);
        let overlay = kubectl.render_component(name)?;
        let faults = planted::check(&overlay, &planted::OF_COMPONENTS, check);
        found.extend(faults.with_context(|| format!("component {name}"))?);
    }
    let all = planted::FAULTS.iter().chain(&planted::OF_COMPONENTS);
    let missing: Vec<_> = all.filter(|(fault, ..)| !found.contains(fault)).collect();
    ensure!(missing.is_empty(), "nowhere to plant {missing:?}");
    Ok(())
}

/// Starts a control plane, applies an overlay, and runs until Ctrl-C.
async fn up(tools: &Tools, overlay: &str) -> Result<()> {
    let name = OVERLAYS.into_iter().find(|name| *name == overlay);
    let name = name.with_context(|| format!("no overlay {overlay}: {OVERLAYS:?}"))?;
    let kubectl = Kubectl::installed()?;
    let rendered = kubectl.render(name)?;
    step("starting a control plane");
    let cluster = Cluster::start(tools.binaries()?, &kubectl).await?;
    fs::write(pid_file(), process::id().to_string())?;
    println!("{}", server::apply(&cluster, &rendered)?);
    println!("export KUBECONFIG={}", cluster.config.display());
    println!("running until Ctrl-C or `cargo xtask kubernetes down`");
    tokio::signal::ctrl_c().await?;
    fs::remove_file(pid_file())?;
    Ok(())
}

async fn test(tools: &Tools) -> Result<()> {
    let kubectl = Kubectl::installed()?;
    step("starting a control plane");
    let cluster = Cluster::start(tools.binaries()?, &kubectl).await?;
    let mut table = Table::default();
    for name in OVERLAYS {
        step(&format!("overlay {name}"));
        server::check(&cluster, name, &kubectl.render(name)?, &mut table).await;
    }
    step("components");
    components::check(&cluster, &mut table);
    print!("{table}");
    table.result()
}

fn down() -> Result<()> {
    let pid = fs::read_to_string(pid_file()).context("no control plane is running")?;
    execute(Path::new("kill"), &["-INT", pid.trim()])
}

/// Returns the file that contains the process id of `up`.
fn pid_file() -> PathBuf {
    env::temp_dir().join("bookapp-kubernetes.pid")
}
