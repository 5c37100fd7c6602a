//! The collectors of both tiers, as processes.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use testbed::{
    number::to_u64,
    process::{Signal, Spec},
    sink::Sink,
    system::http,
};

use crate::stack::{Part, native::HMAC_KEY};

/// The host name that leads to all gateways.
const GATEWAYS: &str = "gateways.test";

/// The time from the first span of a trace until a collector decides about the trace; shorter than by default.
const DECISION_WAIT: Duration = Duration::from_secs(5);

/// The collector's program and its configuration files.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder that contains `otelcol-bookapp`.
    pub binaries: PathBuf,
    /// The root of the checkout.
    pub root: PathBuf,
}

impl Programs {
    /// Returns the specification of a collector that listens on `address`.
    fn collector(&self, name: &str, address: &str, files: &[&str], data: &Path) -> Spec {
        let file = |file: &&str| {
            let path = self.root.join("otel-collector").join(file);
            format!("--config={}.yaml", path.display())
        };
        let spec = Spec::new(name, self.binaries.join("otelcol-bookapp"));
        let spec = files.iter().map(file).fold(spec, Spec::arg);
        let queue = data.join(name).display().to_string();
        Spec {
            stop_signal: Signal::SIGTERM,
            ..spec
        }
        .env("OTELCOL_BIND", address)
        .env("OTELCOL_QUEUE_DIR", queue)
        .env("OTELCOL_FLUSH_INTERVAL", "1s")
        .env(
            "TAIL_SAMPLING_DECISION_WAIT",
            format!("{}s", DECISION_WAIT.as_secs()),
        )
        .env("REDACTION_HMAC_KEY", HMAC_KEY)
    }

    /// Returns the specification of one collector for all signals, whose exporters send to `sink`.
    pub(super) fn one(&self, address: &str, data: &Path, sink: &Sink) -> Spec {
        let spec = self.collector("one", address, &["base", "core"], data);
        exports_to(spec, sink, sink)
    }

    /// Returns the specification of a gateway. It sends traces to one sink, and metrics and logs to another one.
    pub(super) fn gateway(&self, address: &str, data: &Path, traces: &Sink, rest: &Sink) -> Spec {
        let name = format!("gateway-{address}");
        let files = ["base", "core", "gateway"];
        let spec = self.collector(&name, address, &files, data);
        exports_to(spec, traces, rest).env("OTELCOL_INSTANCE", name)
    }

    /// Returns the specification of an agent, which finds the gateways in the file `hosts`. It sees this file as
    /// `/etc/hosts`, in a mount namespace of its own.
    pub(super) fn agent(&self, address: &str, data: &Path, hosts: &Hosts) -> Spec {
        let spec = self.collector("agent", address, &["base", "agent"], data);
        let mount = r#"mount --bind "$HOSTS_FILE" /etc/hosts && exec setpriv --pdeathsig=TERM -- "$0" "$@""#;
        let unshare = Spec::new("agent", "unshare")
            .arg("--user")
            .arg("--map-root-user")
            .arg("--mount")
            .arg("sh")
            .arg("-c")
            .arg(mount)
            .arg(&spec.program);
        Spec {
            program: unshare.program,
            args: [unshare.args, spec.args].concat(),
            ..spec
        }
        .env("HOSTS_FILE", hosts.path.display().to_string())
        .env("GATEWAY_HOST", GATEWAYS)
    }
}

fn exports_to(spec: Spec, traces: &Sink, rest: &Sink) -> Spec {
    let address = traces.endpoint().trim_start_matches("http://").to_owned();
    spec.env("TEMPO_OTLP_ENDPOINT", address)
        .env("LOKI_OTLP_ENDPOINT", rest.endpoint())
        .env("PROMETHEUS_OTLP_ENDPOINT", rest.endpoint())
}

/// Starts a collector that listens on `address`, and waits until it is ready.
pub(super) async fn start(spec: Spec, address: &str) -> Result<Part> {
    Part::start(spec, format!("http://{address}:13133/")).await
}

/// The addresses of the gateways, as a DNS server would return them.
pub(super) struct Hosts {
    path: PathBuf,
}

impl Hosts {
    pub(super) fn new(data: &Path, addresses: &[&str]) -> Result<Self> {
        let path = data.join("hosts");
        fs::write(&path, "")?;
        let hosts = Self { path };
        hosts.set(addresses)?;
        Ok(hosts)
    }

    /// Replaces the addresses. The agent sees the change within ten seconds: its resolver looks every five seconds, and
    /// Go keeps what it read for five seconds.
    pub(super) fn set(&self, addresses: &[&str]) -> Result<()> {
        let line = |address: &&str| format!("{address} {GATEWAYS}\n");
        let text: String = addresses.iter().map(line).collect();
        // In place: the agent has mounted this file.
        let mut file = File::options()
            .write(true)
            .truncate(true)
            .open(&self.path)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

/// Returns the sum of a metric of a collector itself, over all series that have `label`. The values are whole numbers.
pub(super) async fn own_metric(address: &str, name: &str, label: &str) -> Result<u64> {
    let url = format!("http://{address}:8888/metrics");
    let text = http()?.get(url).send().await?.text().await?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let is_searched = rest.starts_with(['{', ' ']) && rest.contains(label);
        let value = is_searched.then(|| rest.rsplit(' ').next())??;
        value.parse::<f64>().ok()
    });
    Ok(to_u64(values.sum()))
}
