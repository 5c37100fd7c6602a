//! OpenTelemetry for services: one call of [`init`] sets up traces, metrics and logs.
//!
//! The crate creates spans and propagates context for HTTP, PostgreSQL and Kafka, adds the trace id
//! to log records, and flushes all telemetry at shutdown.
//!
//! ```no_run
//! use telemetry_common::{TelemetryConfig, init, service};
//! # #[derive(clap::Parser)] struct Settings { #[command(flatten)] telemetry: TelemetryConfig }
//! # fn serve() -> Result<(), std::io::Error> { Ok(()) }
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let settings: Settings = clap::Parser::parse();
//!     let runtime = tokio::runtime::Runtime::new()?;
//!     let _entered = runtime.enter(); // the gRPC exporter needs a runtime
//!     let telemetry = init(&settings.telemetry, service!())?;
//!     let result = serve();
//!     telemetry.shutdown(std::time::Duration::from_secs(5)); // also after a failure
//!     Ok(result?)
//! }
//! ```
//!
//! Modules, in the order in which a request passes through them: [`http`] (server and client),
//! [`db`] and [`kafka`]. All of them use [`RequestId`], [`record_failure`] and the names in
//! [`semconv`]. The private modules `providers`, `subscriber`, `console` and `resource` set up the
//! SDK. The module `testing` is for tests. A cargo feature enables each integration.

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
/// Call it once, inside a tokio runtime, before the first instrument is created. An instrument that
/// is created earlier never exports. Returns an error if a setting is invalid, or if a global
/// tracing subscriber is already installed.
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

/// The reason why [`init`] could not set up telemetry.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// An exporter rejected its settings (`OTEL_EXPORTER_OTLP_*`).
    #[error("could not build the {signal} exporter")]
    Exporter {
        /// The signal: TRACES, METRICS or LOGS.
        signal: &'static str,
        /// The error of the exporter's builder.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The CA certificate for an endpoint could not be read or parsed.
    #[cfg(feature = "tls")]
    #[error("could not load OTEL_EXPORTER_OTLP_CERTIFICATE of {signal}: {reason}")]
    Certificate {
        /// The signal: TRACES, METRICS or LOGS.
        signal: &'static str,
        /// The path and the cause, or the cause alone.
        reason: String,
    },
    /// An endpoint has an `https` URL, but the feature `tls` is disabled.
    #[cfg(not(feature = "tls"))]
    #[error(
        "the OTLP endpoint of {signal} has an https URL: build telemetry-common with its feature tls"
    )]
    NoTls {
        /// The signal: TRACES, METRICS or LOGS.
        signal: &'static str,
    },
    /// `SENTRY_DSN` is not a valid DSN. The message omits the value, which is a secret.
    #[cfg(feature = "sentry")]
    #[error("SENTRY_DSN is not a Sentry DSN")]
    SentryDsn,
    /// The thread that sends events to Sentry could not be started.
    #[cfg(feature = "sentry")]
    #[error("could not start the Sentry transport thread")]
    Sentry(#[source] std::io::Error),
    /// `TRACES_PROCESSOR=simple` with the OTLP exporter: the end of each span would wait for the
    /// collector.
    #[error("TRACES_PROCESSOR=simple is supported only with OTEL_TRACES_EXPORTER=console")]
    Simple,
    /// The Prometheus exporter rejected its registry.
    #[cfg(feature = "prometheus")]
    #[error("could not build the Prometheus exporter")]
    Prometheus(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// `RUST_LOG` is not a valid filter.
    #[error("RUST_LOG is not a valid filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A global tracing subscriber is already installed.
    #[error("a global tracing subscriber is already installed")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
}

/// Returns the id of the current trace as 32 hex digits, or `None` if there is no current span.
pub fn trace_id() -> Option<String> {
    let context = Context::current();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Returns the current span as a W3C `traceparent` value, or `None` if there is no current span.
///
/// Format: <https://www.w3.org/TR/trace-context/#traceparent-header>.
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
