//! The OTLP exporters of the three signals. opentelemetry-otlp reads their settings, except the
//! certificates, which this module reads.
//!
//! `OTEL_EXPORTER_OTLP_CERTIFICATE`, or `OTEL_EXPORTER_OTLP_{signal}_CERTIFICATE`, is the path of a
//! PEM file with the CA certificate that signed the collector's certificate. Without it, the CA
//! certificates of the system verify an `https` endpoint. TLS needs the feature `tls`.

use std::env;

use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, SpanExporter};
#[cfg(feature = "tls")]
use opentelemetry_otlp::{WithHttpConfig as _, WithTonicConfig as _};

use crate::InitError;

macro_rules! exporter {
    ($exporter:ident, $signal:literal) => {{
        let built = match Transport::of($signal)? {
            Transport::Plain => $exporter::builder().build(),
            #[cfg(feature = "tls")]
            Transport::Http(client) => $exporter::builder()
                .with_http()
                .with_http_client(client)
                .build(),
            #[cfg(feature = "tls")]
            Transport::Grpc(tls) => $exporter::builder()
                .with_tonic()
                .with_tls_config(tls)
                .build(),
        };
        built.map_err(failed($signal))
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
    let of_signal = env::var(format!("OTEL_EXPORTER_OTLP_{signal}_{name}"));
    let setting = of_signal.or_else(|_| env::var(format!("OTEL_EXPORTER_OTLP_{name}")));
    setting.ok().filter(|value| !value.is_empty())
}

/// Returns the `otel.component.type` of a signal's exporter. `types` has the type of the HTTP
/// exporter and the type of the gRPC exporter.
pub(crate) fn component(signal: &str, types: (&'static str, &'static str)) -> &'static str {
    match setting(signal, "PROTOCOL").as_deref() {
        Some("grpc") => types.1,
        _ => types.0,
    }
}

/// The client of an exporter: the default one of opentelemetry-otlp, or one with TLS.
enum Transport {
    Plain,
    #[cfg(feature = "tls")]
    Http(tls::Https),
    #[cfg(feature = "tls")]
    Grpc(opentelemetry_otlp::tonic_types::transport::ClientTlsConfig),
}

#[cfg(not(feature = "tls"))]
impl Transport {
    fn of(signal: &'static str) -> Result<Self, InitError> {
        match setting(signal, "ENDPOINT") {
            Some(endpoint) if endpoint.starts_with("https:") => Err(InitError::NoTls { signal }),
            _ => Ok(Self::Plain),
        }
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::{fs, time::Duration};

    use async_trait::async_trait;
    use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
    use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
    use ureq::{
        Agent,
        tls::{self, RootCerts, TlsConfig},
    };

    use super::{Transport, setting};
    use crate::InitError;

    impl Transport {
        pub(super) fn of(signal: &'static str) -> Result<Self, InitError> {
            let endpoint = setting(signal, "ENDPOINT").unwrap_or_default();
            if !endpoint.starts_with("https:") {
                return Ok(Self::Plain);
            }
            let invalid = |reason: String| InitError::Certificate { signal, reason };
            let ca = setting(signal, "CERTIFICATE")
                .map(|path| fs::read(&path).map_err(|error| invalid(format!("{path}: {error}"))))
                .transpose()?;
            if setting(signal, "PROTOCOL").as_deref() == Some("grpc") {
                let tls = ClientTlsConfig::new();
                return Ok(Self::Grpc(match ca {
                    Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                    None => tls.with_native_roots(),
                }));
            }
            let roots = match ca {
                Some(pem) => {
                    let certificate = tls::Certificate::from_pem(&pem);
                    let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                    RootCerts::from([certificate])
                }
                None => RootCerts::PlatformVerifier,
            };
            let timeout = setting(signal, "TIMEOUT").and_then(|value| value.parse().ok());
            let timeout = Duration::from_millis(timeout.unwrap_or(10_000));
            let agent = Agent::config_builder()
                .tls_config(TlsConfig::builder().root_certs(roots).build())
                .timeout_global(Some(timeout))
                .http_status_as_error(false)
                .build();
            Ok(Self::Http(Https(agent.into())))
        }
    }

    /// A blocking HTTP client with TLS. The exporters use it on their own threads, which may block.
    #[derive(Debug)]
    pub(super) struct Https(Agent);

    #[async_trait]
    impl HttpClient for Https {
        async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            let response = self.0.run(request.map(|body| body.to_vec()))?;
            let (parts, mut body) = response.into_parts();
            Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
        }
    }
}
