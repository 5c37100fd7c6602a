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

mod encode;
mod exporter;
#[cfg(feature = "grpc")]
mod grpc;
mod protobuf;
#[cfg(test)]
mod tests;

use std::{env, path::PathBuf, time::Duration};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use ureq::{
    Agent,
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT},
    },
};

use crate::{InitError, pipeline::OtlpSettings};
use exporter::Body;
pub(crate) use exporter::Exporter;

/// Builds an exporter of opentelemetry-otlp. `body` replaces the bodies of its requests over HTTP, if it is
/// there.
macro_rules! exporter {
    ($builder:expr, $settings:expr, $signal:literal, $path:literal, $body:expr) => {{
        let endpoint = Endpoint {
            signal: $signal,
            settings: $settings,
        };
        #[cfg(feature = "grpc")]
        if endpoint.is_grpc() {
            let _entered = grpc::runtime($signal)?.enter();
            let builder = grpc::configure($builder.with_tonic(), &endpoint)?;
            return builder.build().map_err(failed($signal));
        }
        let client = UreqClient::new(&endpoint, $body)?;
        let builder = $builder.with_http().with_http_client(client);
        let builder = endpoint.configure_http(builder, $path);
        builder.build().map_err(failed($signal))
    }};
}

pub(crate) fn spans(settings: &OtlpSettings) -> Result<Exporter<SpanExporter>, InitError> {
    let body = body("TRACES", settings);
    let exporter = span_exporter(settings, body.clone())?;
    Ok(Exporter::new(exporter, body))
}

fn span_exporter(settings: &OtlpSettings, body: Option<Body>) -> Result<SpanExporter, InitError> {
    let builder = SpanExporter::builder();
    exporter!(builder, settings, "TRACES", "/v1/traces", body)
}

pub(crate) fn metrics(settings: &OtlpSettings) -> Result<MetricExporter, InitError> {
    let builder = || match settings {
        OtlpSettings::Environment => MetricExporter::builder(),
        OtlpSettings::File(file) => {
            MetricExporter::builder().with_temporality(file.settings.temporality())
        }
    };
    exporter!(builder(), settings, "METRICS", "/v1/metrics", None)
}

pub(crate) fn logs(settings: &OtlpSettings) -> Result<Exporter<LogExporter>, InitError> {
    let body = body("LOGS", settings);
    let exporter = log_exporter(settings, body.clone())?;
    Ok(Exporter::new(exporter, body))
}

fn log_exporter(settings: &OtlpSettings, body: Option<Body>) -> Result<LogExporter, InitError> {
    let builder = LogExporter::builder();
    exporter!(builder, settings, "LOGS", "/v1/logs", body)
}

/// Returns the body of the requests of a signal over HTTP.
fn body(signal: &'static str, settings: &OtlpSettings) -> Option<Body> {
    let endpoint = Endpoint { signal, settings };
    (!endpoint.is_grpc()).then(Body::default)
}

fn failed(signal: &'static str) -> impl FnOnce(ExporterBuildError) -> InitError {
    move |source| InitError::Exporter { signal, source }
}

/// Returns the `otel.component.type` of a signal's exporter. `types` has the type of the HTTP
/// exporter and the type of the gRPC exporter.
pub(crate) fn component(
    signal: &'static str,
    settings: &OtlpSettings,
    types: (&'static str, &'static str),
) -> &'static str {
    let endpoint = Endpoint { signal, settings };
    if endpoint.is_grpc() { types.1 } else { types.0 }
}

/// The collector of a signal, and how to reach it.
struct Endpoint<'s> {
    /// TRACES, METRICS or LOGS.
    signal: &'static str,
    settings: &'s OtlpSettings,
}

impl Endpoint<'_> {
    /// Returns a setting from the environment: the variable of the signal, else the variable of all
    /// signals. An empty value counts as not set.
    #[expect(
        clippy::disallowed_methods,
        reason = "opentelemetry-otlp reads its variables while it builds an exporter, and so does this"
    )]
    fn variable(&self, name: &str) -> Option<String> {
        let names = [
            format!("OTEL_EXPORTER_OTLP_{}_{name}", self.signal),
            format!("OTEL_EXPORTER_OTLP_{name}"),
        ];
        let mut values = names.iter().filter_map(|name| env::var(name).ok());
        values.find(|value| !value.is_empty())
    }

    fn is_grpc(&self) -> bool {
        cfg!(feature = "grpc")
            && match self.settings {
                OtlpSettings::Environment => self.variable("PROTOCOL").as_deref() == Some("grpc"),
                OtlpSettings::File(file) => file.is_grpc,
            }
    }

    fn is_https(&self) -> bool {
        let url = match self.settings {
            OtlpSettings::Environment => self.variable("ENDPOINT"),
            OtlpSettings::File(file) => file.settings.endpoint.clone(),
        };
        url.is_some_and(|url| url.starts_with("https:"))
    }

    fn timeout(&self) -> Duration {
        match self.settings {
            OtlpSettings::Environment => {
                let timeout = self
                    .variable("TIMEOUT")
                    .and_then(|value| value.parse().ok());
                Duration::from_millis(timeout.unwrap_or(10_000))
            }
            OtlpSettings::File(file) => file.settings.timeout(),
        }
    }

    /// Returns the CA certificate in PEM, if there is one.
    fn certificate(&self) -> Result<Option<Vec<u8>>, InitError> {
        let path = match self.settings {
            OtlpSettings::Environment => self.variable("CERTIFICATE").map(PathBuf::from),
            OtlpSettings::File(file) => file.settings.ca_file().cloned(),
        };
        let read = path.map(|path| {
            std::fs::read(&path).map_err(|error| InitError::Certificate {
                signal: self.signal,
                reason: format!("{}: {error}", path.display()),
            })
        });
        read.transpose()
    }

    /// Adds the settings of a file, except the headers, which the client adds. Those of the
    /// environment are read by opentelemetry-otlp.
    fn configure_http<B: WithExportConfig + WithHttpConfig>(&self, builder: B, path: &str) -> B {
        let OtlpSettings::File(file) = self.settings else {
            return builder;
        };
        let settings = &file.settings;
        let default = format!("http://localhost:4318{path}");
        let builder = builder
            .with_endpoint(settings.endpoint.clone().unwrap_or(default))
            .with_timeout(settings.timeout());
        if settings.is_gzip() {
            builder.with_compression(Compression::Gzip)
        } else {
            builder
        }
    }
}

/// A blocking HTTP client. The exporters use it on their own threads, which may block.
#[derive(Debug)]
struct UreqClient {
    agent: Agent,
    /// The headers of a configuration file. opentelemetry-otlp adds those of the environment, which
    /// the file replaces, so the client removes all others.
    file_headers: Option<HeaderMap>,
    /// Replaces the bodies of the requests.
    body: Option<Body>,
}

impl UreqClient {
    fn new(endpoint: &Endpoint<'_>, body: Option<Body>) -> Result<Self, InitError> {
        let file_headers = match endpoint.settings {
            OtlpSettings::Environment => None,
            OtlpSettings::File(file) => Some(file.headers.clone()),
        };
        Ok(Self {
            agent: agent(endpoint)?,
            file_headers,
            body,
        })
    }
}

fn agent(endpoint: &Endpoint<'_>) -> Result<Agent, InitError> {
    let agent = Agent::config_builder()
        .timeout_global(Some(endpoint.timeout()))
        .http_status_as_error(false);
    if !endpoint.is_https() {
        return Ok(agent.build().into());
    }
    let certificate = endpoint.certificate()?;
    #[cfg(feature = "tls")]
    {
        let tls = tls_config(endpoint.signal, certificate)?;
        Ok(agent.tls_config(tls).build().into())
    }
    #[cfg(not(feature = "tls"))]
    {
        drop(certificate);
        let signal = endpoint.signal;
        Err(InitError::NoTls { signal })
    }
}

#[async_trait]
impl HttpClient for UreqClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        if let Some(file_headers) = &self.file_headers {
            let own = [CONTENT_TYPE, CONTENT_ENCODING, USER_AGENT];
            let own = own.map(|name| parts.headers.remove(&name).map(|value| (name, value)));
            parts.headers = file_headers.clone();
            parts.headers.extend(own.into_iter().flatten());
        }
        let body = match &self.body {
            Some(replaced) => replaced.for_request(&parts.headers)?,
            None => body,
        };
        let response = self.agent.run(Request::from_parts(parts, &*body))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

/// Returns the TLS settings of a signal's HTTP client. `certificate` is the CA's, in PEM.
#[cfg(feature = "tls")]
fn tls_config(
    signal: &'static str,
    certificate: Option<Vec<u8>>,
) -> Result<ureq::tls::TlsConfig, InitError> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};

    let roots = match certificate {
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
