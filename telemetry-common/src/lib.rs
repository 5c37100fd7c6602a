//! OpenTelemetry for services: one line sets up traces, metrics and logs.
//!
//! The crate creates spans and propagates context for HTTP, PostgreSQL and Kafka, adds the trace id
//! to log records, and flushes all telemetry at shutdown.
//!
//! ```no_run
//! # async fn serve() -> Result<(), std::io::Error> { Ok(()) }
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let _telemetry = telemetry_common::builder(telemetry_common::service!()).install()?;
//!     Ok(serve().await?)
//! } // dropped: exports what is still queued, also after an error
//! ```
//!
//! The settings come from the environment: [`VARIABLES`] lists them. [`Builder`] adds layers,
//! processors, views, readers and resource attributes of the application.
//!
//! Modules, in the order in which a request passes through them: [`http`] (server and client),
//! `db` and `kafka`. All of them use [`RequestId`], [`record_failure`] and the names in
//! [`semconv`]. The private modules `builder`, `providers`, `subscriber`, `console` and `resource`
//! set up the SDK. The module `testing` is for tests. A cargo feature enables each integration.

mod bounded;
mod builder;
mod config;
mod config_file;
pub mod connection;
mod console;
mod current;
#[cfg(feature = "sqlx")]
pub mod db;
#[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
mod edge;
mod failure;
#[cfg(feature = "sentry")]
mod grafana;
#[cfg(feature = "http")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod layers;
mod log_fields;
mod normalize;
mod otlp;
mod panics;
mod pipeline;
mod pipeline_stats;
mod process;
mod propagation;
mod providers;
mod rate_limit;
mod redact;
mod rejected;
mod request_id;
mod resource;
pub mod sampling;
mod scope;
#[cfg(feature = "prometheus")]
mod scrape;
pub mod semconv;
#[cfg(feature = "sentry")]
pub mod sentry;
#[cfg(any(feature = "http", feature = "kafka"))]
mod series;
mod subscriber;
pub mod task;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod variables;

use opentelemetry::{Context, TraceFlags, trace::TraceContextExt};

pub use builder::Builder;
#[cfg(feature = "sentry")]
pub use config::Secret;
pub use config::{
    Exporter, InvalidSetting, LogFormat, LogOutput, Processor, Propagator, TelemetryConfig,
    TracesSampler,
};
#[doc(hidden)]
pub use failure::ExceptionType;
pub use failure::{ErrorChain, error_chain, record_failure, set_attribute};
pub use opentelemetry;
pub use request_id::RequestId;
pub use resource::Service;
pub use scope::meter_of;
#[cfg(feature = "prometheus")]
pub use scrape::Scrape;
pub use subscriber::{BadFilter, ConsoleFilter};
pub use telemetry::Telemetry;
#[doc(hidden)]
pub use tracing;
pub use variables::{Reader, VARIABLES, Variable};

/// Starts telemetry for `service`, with the settings from the environment.
///
/// ```
/// use telemetry_common::{opentelemetry::KeyValue, service};
///
/// let telemetry = telemetry_common::builder(service!())
///     .resource([KeyValue::new("team", "books")])
///     .install()?;
/// tracing::info!("started");
/// drop(telemetry); // exports what is still queued
/// # Ok::<(), telemetry_common::InitError>(())
/// ```
pub fn builder(service: Service) -> Builder {
    Builder::new(service)
}

/// The reason why [`Builder::install`] could not set up telemetry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The value of a setting is invalid.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
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
    #[error("could not load OTEL_EXPORTER_OTLP_CERTIFICATE of {signal}: {reason}")]
    Certificate {
        /// The signal: TRACES, METRICS or LOGS.
        signal: &'static str,
        /// The path and the cause, or the cause alone.
        reason: String,
    },
    /// An endpoint has an `https` URL, but the feature `tls` is disabled.
    #[error(
        "the OTLP endpoint of {signal} has an https URL: build telemetry-common with its feature tls"
    )]
    NoTls {
        /// The signal: TRACES, METRICS or LOGS.
        signal: &'static str,
    },
    /// `SENTRY_DSN` is not a valid DSN. The message omits the value, which is a secret.
    #[error("SENTRY_DSN is not a Sentry DSN")]
    SentryDsn,
    /// The thread that sends events to Sentry could not be started.
    #[error("could not start the Sentry transport thread")]
    Sentry(#[source] std::io::Error),
    /// `TRACES_PROCESSOR=simple` with the OTLP exporter: the end of each span would wait for the
    /// collector.
    #[error("TRACES_PROCESSOR=simple is supported only with OTEL_TRACES_EXPORTER=console")]
    Simple,
    /// The console thread could not be started.
    #[error("could not start the thread of the console logs")]
    Console(#[source] std::io::Error),
    /// The runtime of the gRPC exporters could not be started.
    #[cfg(feature = "grpc")]
    #[error("could not start the runtime of the {signal} exporter")]
    Runtime {
        /// The signal: TRACES, METRICS or LOGS.
        signal: &'static str,
        /// The error of the runtime.
        #[source]
        source: std::io::Error,
    },
    /// The Prometheus exporter is for metrics only, and needs the feature `prometheus`.
    #[error("the exporter prometheus is for metrics only, and needs the feature prometheus")]
    NoPrometheus,
    /// The Prometheus exporter rejected its registry.
    #[cfg(feature = "prometheus")]
    #[error("could not build the Prometheus exporter")]
    Prometheus(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// `RUST_LOG` is not a valid filter.
    #[error("RUST_LOG is not a valid filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Telemetry has already started, or another global tracing subscriber is installed.
    #[error("telemetry has already started, or another tracing subscriber is installed")]
    AlreadyInstalled,
}

impl From<tracing_subscriber::util::TryInitError> for InitError {
    fn from(_: tracing_subscriber::util::TryInitError) -> Self {
        Self::AlreadyInstalled
    }
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
    let (trace, span, flags) = Context::map_current(|context| {
        let span = context.span();
        let context = span.span_context();
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        let ids = (context.trace_id(), context.span_id());
        context.is_valid().then_some((ids.0, ids.1, flags.to_u8()))
    })?;
    // Every response has it, and formatting by `fmt` takes ten times as many instructions.
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    push_hex(&mut text, &trace.to_bytes());
    text.push('-');
    push_hex(&mut text, &span.to_bytes());
    text.push('-');
    push_hex(&mut text, &[flags]);
    Some(text)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(DIGITS[usize::from(digit)].into());
        }
    }
}
