//! OTLP over gRPC: the runtime of the connections, and their settings.

use std::{mem, sync::OnceLock};

use opentelemetry::Context;
use opentelemetry_otlp::{
    Compression, WithExportConfig, WithTonicConfig,
    tonic_types::{
        metadata::MetadataMap,
        transport::{Certificate, ClientTlsConfig},
    },
};
use tokio::runtime::{Builder, Runtime};

use super::Endpoint;
use crate::{InitError, pipeline::OtlpSettings};

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

/// Adds TLS, if the endpoint has an `https` URL, and the settings of a file. Those of the
/// environment are read by opentelemetry-otlp.
pub(super) fn configure<B: WithExportConfig + WithTonicConfig>(
    mut builder: B,
    endpoint: &Endpoint<'_>,
) -> Result<B, InitError> {
    if endpoint.is_https() {
        let tls = ClientTlsConfig::new();
        let tls = match endpoint.certificate()? {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        builder = builder.with_tls_config(tls);
    }
    let OtlpSettings::File(file) = endpoint.settings else {
        return Ok(builder);
    };
    let (headers, settings) = (&file.headers, &file.settings);
    let url = settings
        .endpoint
        .as_deref()
        .unwrap_or("http://localhost:4317");
    builder = builder
        .with_endpoint(url)
        .with_timeout(settings.timeout())
        .with_metadata(MetadataMap::from_headers(headers.clone()));
    Ok(if settings.is_gzip() {
        builder.with_compression(Compression::Gzip)
    } else {
        builder
    })
}
