//! The manifests of an overlay, as kustomize renders them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::tools::python_tool;

/// The overlays in `deploy/kubernetes/overlays/`.
pub(super) const OVERLAYS: [&str; 2] = ["local", "production"];
/// The version of Kubernetes whose schemas are used.
const VERSION: &str = "1.37.0";

const FOLDER: &str = "deploy/kubernetes";

/// The kubectl program, for a cluster if it has a configuration.
#[derive(Clone, Debug)]
pub(super) struct Kubectl {
    program: PathBuf,
    config: Option<PathBuf>,
}

/// An overlay, or another folder that kustomize renders.
pub(super) struct Overlay {
    pub(super) objects: Vec<Value>,
    /// The secrets that must exist already, with their keys.
    pub(super) required_secrets: Vec<(String, Vec<String>)>,
    pub(super) text: String,
}

impl Kubectl {
    pub(super) fn installed() -> Result<Self> {
        Ok(Self {
            program: python_tool("kubectl")?,
            config: None,
        })
    }

    /// Returns a kubectl for the cluster of this configuration file.
    pub(super) fn with_config(&self, config: &Path) -> Self {
        Self {
            config: Some(config.to_owned()),
            ..self.clone()
        }
    }

    /// Renders an overlay.
    pub(super) fn render(&self, overlay: &str) -> Result<Overlay> {
        let folder = Path::new(FOLDER).join("overlays").join(overlay);
        Overlay::new(self.kustomize(&folder)?, &folder)
    }

    /// Renders production with a component, or only the component if it is not part of an overlay.
    pub(super) fn render_component(&self, component: &str) -> Result<Overlay> {
        let component = Path::new(FOLDER).join("components").join(component);
        let text = fs::read_to_string(component.join("kustomization.yaml"))?;
        if !text.contains("kind: Component") {
            return Overlay::new(self.kustomize(&component)?, &component);
        }
        let production = Path::new(FOLDER).join("overlays/production");
        let folder = TempDir::with_prefix("bookapp-component-")?;
        for (name, target) in [("overlay", &production), ("component", &component)] {
            symlink(fs::canonicalize(target)?, folder.path().join(name))?;
        }
        let kustomization = "namespace: bookapp\nresources: [overlay]\ncomponents: [component]\n";
        fs::write(folder.path().join("kustomization.yaml"), kustomization)?;
        Overlay::new(self.kustomize(folder.path())?, &production)
    }

    fn kustomize(&self, folder: &Path) -> Result<String> {
        let output = self.output(&["kustomize", &folder.display().to_string()])?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs kubectl. Fails with what it prints on stderr if it fails.
    pub(super) fn output(&self, args: &[&str]) -> Result<Output> {
        let output = self
            .command(args)
            .output()
            .context("could not run kubectl")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {}: {stderr}",
            args.join(" ")
        );
        Ok(output)
    }

    /// Returns the command for these arguments.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("--kubeconfig").arg(config);
        }
        command.args(args);
        command
    }
}

impl Overlay {
    /// Reads what was rendered. `folder` may have a list of secrets that must exist already.
    fn new(text: String, folder: &Path) -> Result<Self> {
        let required = fs::read_to_string(folder.join("required-secrets.yaml"));
        let required: BTreeMap<_, _> = match required {
            Ok(text) => serde_yaml_ng::from_str(&text)?,
            Err(_) => BTreeMap::new(),
        };
        Ok(Self {
            objects: objects(&text)?,
            required_secrets: required.into_iter().collect(),
            text,
        })
    }

    /// Validates all objects by the schemas of Kubernetes; an unknown field is an error.
    pub(super) fn validate(&self, program: &Path) -> Result<()> {
        let folder = TempDir::with_prefix("bookapp-manifests-")?;
        let file = folder.path().join("manifests.yaml");
        fs::write(&file, &self.text)?;
        let mut validate = Command::new(program);
        validate.args(["--kubernetes-version", VERSION, "--strict", "--quiet"]);
        let output = validate
            .arg(&file)
            .output()
            .context("could not run kubernetes-validate")?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{text}");
        Ok(())
    }

    /// Returns a copy in which the objects for which `is_it` holds are changed.
    pub(super) fn changed(&self, is_it: impl Fn(&Value) -> bool, change: fn(&mut Value)) -> Self {
        let mut objects = self.objects.clone();
        let changed = objects.iter_mut().filter(|object| is_it(object));
        changed.for_each(change);
        let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
        Self {
            text: documents.join("\n---\n"),
            objects,
            required_secrets: self.required_secrets.clone(),
        }
    }

    /// Returns the objects of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects
            .iter()
            .filter(move |object| object["kind"] == kind)
    }
}

/// Returns the objects of a YAML stream.
fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}
