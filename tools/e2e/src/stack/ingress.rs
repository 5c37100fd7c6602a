//! The ingress of the native stack, and the pairs of services behind it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use testbed::{
    System,
    process::{Signal, Spec},
    system::{Service, build},
};

use super::{COLLECTOR, Part, TRAEFIK, TRAEFIK_JAEGER, Tools};

/// Two instances of Traefik, one for each header format, with all that they route to beside the system.
pub(super) struct Ingress {
    _instances: [Part; 2],
    _pairs: [[Service; 2]; 2],
}

impl Ingress {
    /// Starts the pairs of services, and then Traefik.
    pub(super) async fn start(tools: &Tools, data: &Path, system: &System) -> Result<Self> {
        let (uninstrumented, instrumented) = tokio::try_join!(pair(false), pair(true))?;
        let urls = [
            ("BOOKAPP_URL", &*system.bookapp.url),
            ("BACKEND_URL", &*system.backend.url),
            ("GRAFANA_URL", "http://127.0.0.1:3000"),
            ("USERVICE1_URL", &*uninstrumented[0].url),
            ("USERVICE3_URL", &*instrumented[0].url),
        ];
        let start = async |url: &str, propagators: &str| {
            let spec = traefik(tools, data, url)?.env("OTEL_PROPAGATORS", propagators);
            let with = |spec: Spec, (name, url): &(&str, &str)| spec.env(name, *url);
            Part::start(urls.iter().fold(spec, with), format!("{url}/ping")).await
        };
        Ok(Self {
            _instances: [
                start(TRAEFIK, "tracecontext,baggage").await?,
                start(TRAEFIK_JAEGER, "jaeger").await?,
            ],
            _pairs: [uninstrumented, instrumented],
        })
    }
}

/// Returns the specification that starts Traefik at `url`. Its configuration is that of docker
/// compose, with addresses on this host.
fn traefik(tools: &Tools, data: &Path, url: &str) -> Result<Spec> {
    let folder = tools.root.join("stack/traefik");
    let address = url.trim_start_matches("http://");
    let config = fs::read_to_string(folder.join("traefik.yaml"))?
        .replace("\":8080\"", &format!("\"{address}\""))
        .replace("http://otel-collector:4318", COLLECTOR)
        .replace("/etc/traefik", &folder.display().to_string());
    let file = data.join(format!("traefik-{}.yaml", address.replace(':', "-")));
    fs::write(&file, config)?;
    Ok(Spec {
        stop_signal: Signal::SIGTERM,
        ..Spec::new("traefik", &tools.traefik)
    }
    .arg(format!("--configFile={}", file.display())))
}

/// Starts a pair of examples/uservices. The first one calls the second one.
async fn pair(is_instrumented: bool) -> Result<[Service; 2]> {
    let binaries = build(&["uservices"], &[], "dev")?;
    let program = binaries
        .get("uservices")
        .context("cargo built no uservices")?;
    let spec = |name: &str| {
        let spec = Spec::new(name, program).arg(name).arg("127.0.0.1:0");
        let spec = spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
        if is_instrumented {
            spec.arg("--instrumented")
        } else {
            spec
        }
    };
    let [first, second] = if is_instrumented {
        ["uservice3", "uservice4"]
    } else {
        ["uservice1", "uservice2"]
    };
    let second = Service::start_without_admin(&spec(second)).await?;
    let first = spec(first).arg("--downstream").arg(&second.url);
    Ok([Service::start_without_admin(&first).await?, second])
}
