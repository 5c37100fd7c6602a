//! The OTLP exporters of the three signals. opentelemetry-otlp reads their settings, except the
//! certificates, which this module reads.
//!
//! `OTEL_EXPORTER_OTLP_CERTIFICATE`, or `OTEL_EXPORTER_OTLP_{signal}_CERTIFICATE`, is the path of a
//! PEM file with the CA certificate that signed the collector's certificate. Without it, the CA
//! certificates of the system verify an `https` endpoint.
//!
//! All work of the exporters happens on threads in which the SDK suppresses telemetry: exporting
//! telemetry must not create telemetry. HTTP requests are sent on the thread of the batch processor;
//! gRPC has a runtime of its own.

use std::{env, time::Duration};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithHttpConfig as _,
};
use ureq::Agent;

use crate::InitError;

macro_rules! exporter {
    ($exporter:ident, $signal:literal) => {{
        #[cfg(feature = "grpc")]
        if is_grpc($signal) {
            let _entered = grpc::runtime($signal)?.enter();
            let builder = $exporter::builder().with_tonic();
            return grpc::with_tls(builder, $signal)?
                .build()
                .map_err(failed($signal));
        }
        let builder = $exporter::builder().with_http();
        let client = UreqClient::new($signal)?;
        builder
            .with_http_client(client)
            .build()
            .map_err(failed($signal))
    }};
}

pub(crate) fn spans() -> Result<SpanExporter, InitError> {
    exporter!(SpanExporter, "TRACES")
}

pub(crate) fn metrics() -> Result<MetricExporter, InitError> {
    exporter!(MetricExporter, "METRICS")
}

pub(crate) fn logs() -> Result<LogExporter, InitError> {
    exporter!(LogExporter, "LOGS")
}

fn failed(signal: &'static str) -> impl FnOnce(ExporterBuildError) -> InitError {
    move |source| InitError::Exporter { signal, source }
}

/// Returns a setting of a signal's exporter: the variable of the signal, else the variable of all
/// signals. An empty value counts as not set.
#[expect(
    clippy::disallowed_methods,
    reason = "opentelemetry-otlp reads its variables while it builds an exporter, and so does this"
)]
fn setting(signal: &str, name: &str) -> Option<String> {
    let names = [
        format!("OTEL_EXPORTER_OTLP_{signal}_{name}"),
        format!("OTEL_EXPORTER_OTLP_{name}"),
    ];
    let mut values = names.iter().filter_map(|name| env::var(name).ok());
    values.find(|value| !value.is_empty())
}

/// Returns the `otel.component.type` of a signal's exporter. `types` has the type of the HTTP
/// exporter and the type of the gRPC exporter.
pub(crate) fn component(signal: &str, types: (&'static str, &'static str)) -> &'static str {
    if is_grpc(signal) { types.1 } else { types.0 }
}

fn is_grpc(signal: &str) -> bool {
    cfg!(feature = "grpc") && setting(signal, "PROTOCOL").as_deref() == Some("grpc")
}

fn is_https(signal: &str) -> bool {
    setting(signal, "ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("https:"))
}

/// Returns the CA certificate of a signal's endpoint in PEM, if there is one.
#[cfg(any(feature = "grpc", feature = "tls"))]
fn certificate(signal: &'static str) -> Result<Option<Vec<u8>>, InitError> {
    let path = setting(signal, "CERTIFICATE");
    let read = path.map(|path| {
        std::fs::read(&path).map_err(|error| InitError::Certificate {
            signal,
            reason: format!("{path}: {error}"),
        })
    });
    read.transpose()
}

/// A blocking HTTP client. The exporters use it on their own threads, which may block.
#[derive(Debug)]
struct UreqClient(Agent);

impl UreqClient {
    fn new(signal: &'static str) -> Result<Self, InitError> {
        let timeout = setting(signal, "TIMEOUT").and_then(|value| value.parse().ok());
        let timeout = Duration::from_millis(timeout.unwrap_or(10_000));
        let agent = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false);
        let agent = if is_https(signal) {
            #[cfg(not(feature = "tls"))]
            return Err(InitError::NoTls { signal });
            #[cfg(feature = "tls")]
            agent.tls_config(tls::config(signal)?)
        } else {
            agent
        };
        Ok(Self(agent.build().into()))
    }
}

#[async_trait]
impl HttpClient for UreqClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|body| body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

#[cfg(feature = "tls")]
mod tls {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};

    use crate::InitError;

    /// Returns the TLS settings of a signal's HTTP client.
    pub(super) fn config(signal: &'static str) -> Result<TlsConfig, InitError> {
        let roots = match super::certificate(signal)? {
            Some(pem) => {
                let certificate = Certificate::from_pem(&pem);
                let certificate = certificate.map_err(|error| InitError::Certificate {
                    signal,
                    reason: error.to_string(),
                })?;
                RootCerts::from([certificate])
            }
            None => RootCerts::PlatformVerifier,
        };
        Ok(TlsConfig::builder().root_certs(roots).build())
    }
}

#[cfg(feature = "grpc")]
mod grpc {
    use std::{mem, sync::OnceLock};

    use opentelemetry::Context;
    use opentelemetry_otlp::{
        WithTonicConfig,
        tonic_types::transport::{Certificate, ClientTlsConfig},
    };
    use tokio::runtime::{Builder, Runtime};

    use crate::InitError;

    /// Returns the runtime of the gRPC connections. It never stops: connections are closed when the
    /// exporters are.
    pub(super) fn runtime(signal: &'static str) -> Result<&'static Runtime, InitError> {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp-grpc")
            .enable_all()
            // The thread does nothing but export, so the guard is never dropped.
            .on_thread_start(|| mem::forget(Context::enter_telemetry_suppressed_scope()))
            .build()
            .map_err(|source| InitError::Runtime { signal, source })?;
        Ok(RUNTIME.get_or_init(|| runtime))
    }

    /// Adds TLS to the builder of an exporter, if the endpoint has an `https` URL.
    pub(super) fn with_tls<B: WithTonicConfig>(
        builder: B,
        signal: &'static str,
    ) -> Result<B, InitError> {
        if !super::is_https(signal) {
            return Ok(builder);
        }
        let tls = ClientTlsConfig::new();
        let tls = match super::certificate(signal)? {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        Ok(builder.with_tls_config(tls))
    }
}
