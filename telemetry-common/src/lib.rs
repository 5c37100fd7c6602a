//! Everything about telemetry that the services share: one [`init`], spans and propagation at
//! every edge, logs that carry the trace's id, and a shutdown that flushes.
//!
//! ```no_run
//! use telemetry_common::{TelemetryConfig, init, service};
//! # #[derive(clap::Parser)] struct Settings { #[command(flatten)] telemetry: TelemetryConfig }
//! # fn serve() -> Result<(), std::io::Error> { Ok(()) }
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let settings: Settings = clap::Parser::parse();
//!     let runtime = tokio::runtime::Runtime::new()?;
//!     let _entered = runtime.enter(); // the gRPC exporter is built inside a runtime
//!     let telemetry = init(&settings.telemetry, service!())?;
//!     let result = serve();
//!     telemetry.shutdown(std::time::Duration::from_secs(5)); // after a failure too
//!     Ok(result?)
//! }
//! ```
//!
//! The map, in the order of a request: [`http`] (server and client), [`db`], [`kafka`]; beside
//! them [`RequestId`], [`record_failure`] and the names in [`semconv`]; underneath `providers`,
//! `subscriber`, `console`, `resource`; for tests `testing`. Each edge is a cargo feature.

mod bounded;
mod config;
pub mod connection;
mod console;
#[cfg(feature = "sqlx")]
pub mod db;
mod environment;
mod failure;
#[cfg(feature = "sentry")]
mod grafana;
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
mod normalize;
mod otlp;
mod panics;
mod pipeline_stats;
mod process;
mod propagation;
mod providers;
#[cfg(any(feature = "axum", feature = "reqwest", feature = "sentry"))]
mod redact;
mod rejected;
mod request_id;
mod resource;
mod sampler;
mod scope;
#[cfg(feature = "prometheus")]
mod scrape;
pub mod semconv;
#[cfg(feature = "sentry")]
pub mod sentry;
mod subscriber;
#[cfg(feature = "testing")]
pub mod testing;

use opentelemetry::{Context, TraceFlags, trace::TraceContextExt};

pub use config::{Exporter, LogFormat, Processor, Propagator, TelemetryConfig};
#[doc(hidden)]
pub use failure::ExceptionType;
pub use failure::{ErrorChain, error_chain, record_failure};
pub use opentelemetry;
pub use providers::Telemetry;
pub use request_id::RequestId;
pub use resource::Service;
pub use scope::meter_of;
#[cfg(feature = "prometheus")]
pub use scrape::Scrape;
pub use subscriber::{BadFilter, ConsoleFilter};
#[doc(hidden)]
pub use tracing;

/// Sets up traces, metrics and logs for this process.
///
/// Call it once, inside a tokio runtime, before the first instrument is created: one made earlier
/// stays silent for ever.
pub fn init(config: &TelemetryConfig, service: Service) -> Result<Telemetry, InitError> {
    let mut telemetry = subscriber::while_starting(|| Telemetry::build(config, service))?;
    #[cfg(any(feature = "axum", feature = "reqwest"))]
    if let Some(methods) = &config.otel_instrumentation_http_known_methods {
        http::method::set_known(methods);
    }
    subscriber::install(config, &mut telemetry)?;
    environment::warn_about_ignored();
    panics::observe();
    process::observe();
    Ok(telemetry)
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// An exporter refused its settings (`OTEL_EXPORTER_OTLP_*`).
    #[error("could not build the {signal} exporter")]
    Exporter {
        /// Which signal it is for: TRACES, METRICS or LOGS.
        signal: &'static str,
        /// What the exporter said.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The certificate of an endpoint cannot be used.
    #[cfg(feature = "tls")]
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE of {signal} cannot be used: {reason}")]
    Certificate {
        /// Which signal it is for.
        signal: &'static str,
        /// Why not.
        reason: String,
    },
    /// An endpoint wants TLS, and it is not built in.
    #[cfg(not(feature = "tls"))]
    #[error("the endpoint of {signal} wants TLS: build telemetry-common with its feature tls")]
    NoTls {
        /// Which signal it is for.
        signal: &'static str,
    },
    /// The DSN is none; it is a secret, and not repeated.
    #[cfg(feature = "sentry")]
    #[error("SENTRY_DSN is not a Sentry DSN")]
    SentryDsn,
    /// Sentry's thread did not start.
    #[cfg(feature = "sentry")]
    #[error("could not start what sends to Sentry")]
    Sentry(#[source] std::io::Error),
    /// Spans that leave one by one would wait for the collector, each of them.
    #[error("TRACES_PROCESSOR=simple is for OTEL_TRACES_EXPORTER=console alone")]
    Simple,
    /// The metrics cannot be scraped.
    #[cfg(feature = "prometheus")]
    #[error("could not build the Prometheus exporter")]
    Prometheus(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// `RUST_LOG` is no filter.
    #[error("RUST_LOG is not a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something installed a subscriber before.
    #[error("a tracing subscriber is installed already")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
}

/// The current trace's id as 32 hex digits; `None` outside any trace.
pub fn trace_id() -> Option<String> {
    let context = Context::current();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// The current span as a W3C `traceparent` value; `None` outside any trace.
///
/// See <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub fn traceparent() -> Option<String> {
    let context = Context::current();
    let span = context.span().span_context().clone();
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            flags.to_u8()
        )
    })
}
