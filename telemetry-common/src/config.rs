//! Telemetry settings, which each service flattens into its own settings.
//!
//! The SDK itself reads `OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*`, `OTEL_BLRP_*`, `OTEL_TRACES_SAMPLER*`
//! and `OTEL_RESOURCE_ATTRIBUTES`. This module declares the settings that this crate applies. A
//! setting has its standard name if there is one:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.

use std::io::{IsTerminal, stderr};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::filter::Targets;

/// The telemetry settings of a process.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "Telemetry (in addition to OTEL_EXPORTER_OTLP_* and the SDK's other variables)"
)]
pub struct TelemetryConfig {
    /// Disables the export of traces, metrics and log records. Console logs continue.
    #[arg(long, env, action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    pub otel_sdk_disabled: bool,

    /// The resource attribute `service.name` [default: the name of the package].
    #[arg(long, env, value_name = "NAME")]
    pub otel_service_name: Option<String>,

    /// The exporter of spans.
    #[arg(long, env, default_value = "otlp", value_name = "EXPORTER")]
    pub otel_traces_exporter: Exporter,

    /// Maximum number of ended spans in the export queue. If the queue is full, spans are dropped.
    /// The default is enough for several concurrent bulk requests of 1,000 spans each.
    #[arg(long, env, default_value_t = 8192, value_name = "N")]
    pub otel_bsp_max_queue_size: usize,

    /// Maximum number of log records in the export queue. If the queue is full, records are
    /// dropped.
    #[arg(long, env, default_value_t = 2048, value_name = "N")]
    pub otel_blrp_max_queue_size: usize,

    /// Span processor: exports ended spans in batches, or each one immediately. `simple` is
    /// supported only with the console exporter.
    #[arg(long, env, default_value = "batch", value_name = "PROCESSOR")]
    pub traces_processor: Processor,

    /// Maximum length of string attributes of a span, in characters. Longer values are truncated
    /// [default: no limit].
    #[arg(long, env, value_name = "N")]
    pub otel_attribute_value_length_limit: Option<usize>,

    /// The exporter of metrics.
    #[arg(long, env, default_value = "otlp", value_name = "EXPORTER")]
    pub otel_metrics_exporter: Exporter,

    /// The exporter of log records. Console logs are written in addition.
    #[arg(long, env, default_value = "otlp", value_name = "EXPORTER")]
    pub otel_logs_exporter: Exporter,

    /// The formats in which trace context and baggage are propagated, separated by commas.
    #[arg(
        long,
        env,
        value_delimiter = ',',
        default_value = "tracecontext,baggage",
        value_name = "LIST"
    )]
    pub otel_propagators: Vec<Propagator>,

    /// The HTTP methods that are recorded by name, separated by commas. Every other method is
    /// recorded as `_OTHER` [default: the list of the HTTP semantic conventions].
    #[arg(long, env, value_delimiter = ',', value_name = "LIST")]
    pub otel_instrumentation_http_known_methods: Option<Vec<String>>,

    /// Format of the console logs [default: text if stderr is a terminal, else json].
    #[arg(long, env, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Filter of the console logs, as `EnvFilter` directives. It does not affect what is exported.
    #[arg(long, env, default_value = "info", value_name = "FILTER")]
    pub rust_log: String,

    /// Settings of Sentry.
    #[cfg(feature = "sentry")]
    #[command(flatten)]
    pub sentry: crate::sentry::SentryConfig,

    /// Base URL of Grafana. Each Sentry event links to its trace and logs in Grafana [default: no
    /// links].
    #[cfg(feature = "sentry")]
    #[arg(long, env, value_name = "URL")]
    pub grafana_url: Option<url::Url>,

    /// Filter of the spans that are created, as `target=level` pairs.
    #[arg(long, env, default_value = "info", value_name = "FILTER")]
    pub traces_filter: Targets,

    /// Filter of the log records that are exported, as `target=level` pairs. The default omits
    /// the warnings of sqlx's pool, because their field `error` has no namespace.
    #[arg(
        long,
        env,
        default_value = "info,sqlx_core::pool=error",
        value_name = "FILTER"
    )]
    pub logs_filter: Targets,
}

impl TelemetryConfig {
    /// Returns the format of the console logs: `log_format` if it is set, else text if stderr is a
    /// terminal, else JSON.
    pub fn console_format(&self) -> LogFormat {
        self.log_format.unwrap_or_else(|| {
            if stderr().is_terminal() {
                LogFormat::Text
            } else {
                LogFormat::Json
            }
        })
    }
}

/// The exporter of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exporter {
    /// OTLP, to `OTEL_EXPORTER_OTLP_ENDPOINT` by `OTEL_EXPORTER_OTLP_PROTOCOL`.
    Otlp,
    /// Complete data on stdout, for debugging.
    Console,
    /// No export.
    None,
}

/// The span processor, which passes ended spans to the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Processor {
    /// Exports batches of spans on a separate thread.
    Batch,
    /// Exports each span on the thread that ends it, which waits for the export.
    Simple,
}

/// A format in which context is propagated between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Propagator {
    /// W3C Trace Context: `traceparent`, `tracestate`.
    #[value(name = "tracecontext")]
    TraceContext,
    /// W3C Baggage.
    Baggage,
    /// Zipkin's B3 in one header: `b3`.
    B3,
    /// Zipkin's B3 in multiple headers: `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled`.
    #[value(name = "b3multi")]
    B3Multi,
    /// Jaeger: `uber-trace-id`.
    Jaeger,
    /// No propagation.
    None,
}

/// The format of the console logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text, one line per log record.
    Text,
    /// One JSON object per line.
    Json,
}
