//! A control plane of Kubernetes as processes, with nodes that kwok simulates: pods become ready without containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    eventually, port,
    process::{Process, Signal, Spec},
};

use super::manifests::Kubectl;

/// The version of kwok whose stages say how pods and nodes become ready.
const KWOK: &str = "sigs.k8s.io/kwok@v0.8.0";
const NODES: usize = 3;
const START: Duration = Duration::from_mins(1);
const TOKEN: &str = "admintoken";
/// The time limit of a command that waits.
pub(super) const TIMEOUT: &str = "--timeout=90s";

/// A running control plane. It stops on drop.
pub(super) struct Cluster {
    pub(super) kubectl: Kubectl,
    pub(super) config: PathBuf,
    // In the order in which they stop.
    _processes: [Process; 5],
    _data: TempDir,
}

/// What the parts of a control plane have in common.
struct Parts<'p> {
    binaries: &'p Path,
    data: &'p Path,
    /// The configuration of clients.
    config: String,
    etcd_url: String,
    api_port: u16,
}

impl Parts<'_> {
    /// Starts a program with options of the form `--name=value`.
    fn start(&self, name: &str, options: &[(&str, &str)]) -> Result<Process> {
        let spec = Spec {
            stop_signal: Signal::SIGTERM,
            ..Spec::new(name, self.binaries.join(name))
        };
        let option =
            |spec: Spec, (name, value): &(&str, &str)| spec.arg(format!("--{name}={value}"));
        Process::start(&options.iter().fold(spec, option))
    }

    fn path(&self, name: &str) -> String {
        self.data.join(name).display().to_string()
    }

    fn etcd(&self) -> Result<Process> {
        let peers = format!("http://127.0.0.1:{}", port::free()?);
        self.start(
            "etcd",
            &[
                ("data-dir", &self.path("etcd")),
                ("listen-client-urls", &self.etcd_url),
                ("advertise-client-urls", &self.etcd_url),
                ("listen-peer-urls", &peers),
                ("initial-advertise-peer-urls", &peers),
                ("initial-cluster", &format!("default={peers}")),
            ],
        )
    }

    fn api_server(&self) -> Result<Process> {
        let mut key = Command::new("openssl");
        key.args(["genrsa", "-out", &self.path("sa.key"), "2048"]);
        let made = key.output().context("could not run openssl")?;
        ensure!(made.status.success(), "openssl could not make a key");
        let token = format!("{TOKEN},admin,1,\"system:masters\"\n");
        fs::write(self.path("tokens.csv"), token)?;
        self.start(
            "kube-apiserver",
            &[
                ("etcd-servers", &self.etcd_url),
                ("bind-address", "127.0.0.1"),
                ("advertise-address", "127.0.0.1"),
                ("endpoint-reconciler-type", "none"),
                ("secure-port", &self.api_port.to_string()),
                ("cert-dir", &self.path("certs")),
                ("service-account-key-file", &self.path("sa.key")),
                ("service-account-signing-key-file", &self.path("sa.key")),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("service-cluster-ip-range", "10.0.0.0/24"),
                ("authorization-mode", "RBAC"),
                ("token-auth-file", &self.path("tokens.csv")),
                // So that Pod Security decides about privileged pods.
                ("allow-privileged", "true"),
            ],
        )
    }

    /// Starts the controller manager or the scheduler.
    fn controller(&self, name: &str, options: &[(&str, &str)]) -> Result<Process> {
        let (secure_port, certificates) = (port::free()?.to_string(), self.path(name));
        let own = [
            ("kubeconfig", &*self.config),
            ("authentication-kubeconfig", &self.config),
            ("authorization-kubeconfig", &self.config),
            ("bind-address", "127.0.0.1"),
            ("secure-port", &secure_port),
            ("cert-dir", &certificates),
            ("leader-elect", "false"),
        ];
        self.start(name, &[&own[..], options].concat())
    }

    fn kwok(&self, kubectl: &Kubectl) -> Result<Process> {
        let stages = self.path("stages.yaml");
        fs::write(&stages, self::stages(kubectl)?)?;
        self.start(
            "kwok",
            &[
                ("kubeconfig", &self.config),
                ("config", &stages),
                ("manage-all-nodes", "true"),
                ("node-lease-duration-seconds", "40"),
                ("server-address", &format!("127.0.0.1:{}", port::free()?)),
            ],
        )
    }
}

impl Cluster {
    /// Starts the control plane and three nodes, and waits until they are ready.
    pub(super) async fn start(binaries: &Path, kubectl: &Kubectl) -> Result<Self> {
        let data = TempDir::with_prefix("bookapp-kubernetes-")?;
        let config = data.path().join("kubeconfig.json");
        let parts = Parts {
            binaries,
            data: data.path(),
            config: config.display().to_string(),
            etcd_url: format!("http://127.0.0.1:{}", port::free()?),
            api_port: port::free()?,
        };
        fs::write(&config, kubeconfig(parts.api_port).to_string())?;
        let kubectl = kubectl.with_config(&config);

        let (etcd, api_server) = (parts.etcd()?, parts.api_server()?);
        let ready = async || kubectl.output(&["get", "--raw", "/readyz"]).ok().map(drop);
        let started = eventually(START, "the API server is ready", ready).await;
        started.with_context(|| api_server.lines().join("\n"))?;
        let manager = [
            ("service-account-private-key-file", &*parts.path("sa.key")),
            ("root-ca-file", &parts.path("certs/apiserver.crt")),
            ("use-service-account-credentials", "true"),
        ];
        let manager = parts.controller("kube-controller-manager", &manager)?;
        let scheduler = parts.controller("kube-scheduler", &[])?;
        let kwok = parts.kwok(&kubectl)?;
        let cluster = Self {
            kubectl,
            config,
            _processes: [kwok, scheduler, manager, api_server, etcd],
            _data: data,
        };
        cluster.add_nodes()?;
        Ok(cluster)
    }

    fn add_nodes(&self) -> Result<()> {
        for number in 1..=NODES {
            let name = format!("node-{number}");
            let labels = json!({
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": format!("zone-{number}"),
            });
            self.apply(
                &json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": name, "labels": labels},
                })
                .to_string(),
            )?;
        }
        let wait = ["wait", "node", "--all", "--for=condition=Ready", TIMEOUT];
        self.kubectl.output(&wait).map(drop)
    }

    /// Creates the project's namespace, if it does not exist. The overlays add its labels.
    pub(super) fn add_namespace(&self) -> Result<()> {
        let name = json!({"name": "bookapp"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": name});
        self.apply(&namespace.to_string()).map(drop)
    }

    /// Applies manifests as their owner, with strict validation. Returns the warnings.
    pub(super) fn apply(&self, manifests: &str) -> Result<Vec<String>> {
        let folder = TempDir::with_prefix("bookapp-apply-")?;
        let file = folder.path().join("manifests.yaml");
        fs::write(&file, manifests)?;
        let file = file.display().to_string();
        let output = self.kubectl.output(&[
            "apply",
            "--server-side",
            "--validate=strict",
            "--filename",
            &file,
        ])?;
        let stderr = String::from_utf8(output.stderr)?;
        let warnings = stderr.lines().filter(|line| line.starts_with("Warning"));
        Ok(warnings.map(str::to_owned).collect())
    }

    /// Returns objects of the project's namespace as JSON.
    pub(super) fn get(&self, args: &[&str]) -> Result<Value> {
        let get = ["get", "--namespace=bookapp", "--output=json"];
        let output = self.kubectl.output(&[&get[..], args].concat())?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Returns the configuration of a client with all rights. The API server signs its own certificate.
fn kubeconfig(port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bookapp",
        "clusters": [{"name": "bookapp", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "bookapp", "context": {"cluster": "bookapp", "user": "admin"}}],
    })
}

/// Returns kwok's stages: nodes and pods become ready at once, pods of jobs succeed.
fn stages(kubectl: &Kubectl) -> Result<String> {
    let folder = module(KWOK)?.join("kustomize/stage/fast");
    let stages = kubectl.output(&["kustomize", &folder.display().to_string()])?;
    Ok(String::from_utf8(stages.stdout)?)
}

/// Downloads a Go module, and returns its folder.
pub(super) fn module(module: &str) -> Result<PathBuf> {
    let folder = TempDir::with_prefix("bookapp-go-")?;
    let mut download = Command::new("go");
    download
        .args(["mod", "download", "-json", module])
        .current_dir(folder.path());
    let output = download.output().context("could not run go")?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let folder = answer["Dir"]
        .as_str()
        .with_context(|| format!("{module}: {}", answer["Error"]))?;
    Ok(folder.into())
}
