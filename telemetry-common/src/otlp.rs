//! The OTLP exporters. The SDK reads their settings itself, except certificates: those stand here.
//!
//! `OTEL_EXPORTER_OTLP_CERTIFICATE`, and the form of each signal, name a PEM file with the authority
//! that signed the collector's certificate; without it an `https` endpoint is held against the
//! system's authorities. Feature `tls`.

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

/// A setting of a signal's exporter: its own, or that of all.
#[expect(
    clippy::disallowed_methods,
    reason = "the SDK reads its settings where they are used, and so the ones beside them"
)]
fn setting(signal: &str, name: &str) -> Option<String> {
    let own = env::var(format!("OTEL_EXPORTER_OTLP_{signal}_{name}"));
    let setting = own.or_else(|_| env::var(format!("OTEL_EXPORTER_OTLP_{name}")));
    setting.ok().filter(|value| !value.is_empty())
}

/// `otel.component.type` of a signal's exporter: one of the pair, for HTTP or for gRPC.
pub(crate) fn component(signal: &str, types: (&'static str, &'static str)) -> &'static str {
    match setting(signal, "PROTOCOL").as_deref() {
        Some("grpc") => types.1,
        _ => types.0,
    }
}

/// The client of an exporter, where the SDK's default does not serve.
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
            let bad = |reason: String| InitError::Certificate { signal, reason };
            let authority = setting(signal, "CERTIFICATE")
                .map(|path| fs::read(&path).map_err(|error| bad(format!("{path}: {error}"))))
                .transpose()?;
            if setting(signal, "PROTOCOL").as_deref() == Some("grpc") {
                let tls = ClientTlsConfig::new();
                return Ok(Self::Grpc(match authority {
                    Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                    None => tls.with_native_roots(),
                }));
            }
            let roots = match authority {
                Some(pem) => {
                    let authority = tls::Certificate::from_pem(&pem);
                    let authority = authority.map_err(|error| bad(error.to_string()))?;
                    RootCerts::from([authority])
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

    /// HTTP over TLS for the exporters' own threads, which may block.
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
