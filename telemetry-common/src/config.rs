//! Telemetry's settings, flattened into each service's own.
//!
//! `OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*`, `OTEL_BLRP_*`, `OTEL_TRACES_SAMPLER*` and
//! `OTEL_RESOURCE_ATTRIBUTES` are read by the SDK itself; here stand those it leaves to us, under
//! their standard names (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use std::io::{IsTerminal, stderr};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::filter::Targets;

/// How this process speaks about itself.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "Telemetry (beside OTEL_EXPORTER_OTLP_* and the SDK's other variables)"
)]
pub struct TelemetryConfig {
    /// Turns traces, metrics and exported logs off; the console stays.
    #[arg(long, env, action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    pub otel_sdk_disabled: bool,

    /// `service.name`, when it is not the binary's own name.
    #[arg(long, env, value_name = "NAME")]
    pub otel_service_name: Option<String>,

    /// Where spans go.
    #[arg(long, env, default_value = "otlp", value_name = "EXPORTER")]
    pub otel_traces_exporter: Exporter,

    /// How many ended spans wait for export at most; the rest is dropped. Large enough for some
    /// bulk calls of 1,000 spans at once.
    #[arg(long, env, default_value_t = 8192, value_name = "N")]
    pub otel_bsp_max_queue_size: usize,

    /// How many log records wait for export at most; the rest is dropped.
    #[arg(long, env, default_value_t = 2048, value_name = "N")]
    pub otel_blrp_max_queue_size: usize,

    /// Whether spans leave in batches, or each at once: simple is for the console exporter alone.
    #[arg(long, env, default_value = "batch", value_name = "PROCESSOR")]
    pub traces_processor: Processor,

    /// How long a text attribute of a span may be, in characters; the rest is cut off [default:
    /// as long as it is].
    #[arg(long, env, value_name = "N")]
    pub otel_attribute_value_length_limit: Option<usize>,

    /// Where metrics go.
    #[arg(long, env, default_value = "otlp", value_name = "EXPORTER")]
    pub otel_metrics_exporter: Exporter,

    /// Where log records go, beside the console.
    #[arg(long, env, default_value = "otlp", value_name = "EXPORTER")]
    pub otel_logs_exporter: Exporter,

    /// How context travels between processes.
    #[arg(
        long,
        env,
        value_delimiter = ',',
        default_value = "tracecontext,baggage",
        value_name = "LIST"
    )]
    pub otel_propagators: Vec<Propagator>,

    /// The HTTP methods that are recorded by name, separated by commas; any other one is `_OTHER`
    /// [default: the convention's list].
    #[arg(long, env, value_delimiter = ',', value_name = "LIST")]
    pub otel_instrumentation_http_known_methods: Option<Vec<String>>,

    /// The console's lines: text for people, json for machines [default: text on a terminal].
    #[arg(long, env, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What the console shows, as `tracing` directives; it filters the console alone.
    #[arg(long, env, default_value = "info", value_name = "FILTER")]
    pub rust_log: String,

    /// Sentry.
    #[cfg(feature = "sentry")]
    #[command(flatten)]
    pub sentry: crate::sentry::SentryConfig,

    /// Base URL of Grafana: each Sentry event links to its trace and logs there [default: no link].
    #[cfg(feature = "sentry")]
    #[arg(long, env, value_name = "URL")]
    pub grafana_url: Option<url::Url>,

    /// Which spans are made, as `target=level` pairs.
    #[arg(long, env, default_value = "info", value_name = "FILTER")]
    pub traces_filter: Targets,

    /// Which log records are exported, as `target=level` pairs.
    #[arg(long, env, default_value = "info", value_name = "FILTER")]
    pub logs_filter: Targets,
}

impl TelemetryConfig {
    /// The format of the console's lines: `log_format`, else text where stderr is a terminal, else
    /// JSON.
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

/// Where a signal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exporter {
    /// To `OTEL_EXPORTER_OTLP_ENDPOINT`, by `OTEL_EXPORTER_OTLP_PROTOCOL`.
    Otlp,
    /// To stdout, whole: for people who look at one thing at a time.
    Console,
    /// Nowhere.
    None,
}

/// How ended spans reach their exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Processor {
    /// Many at once, from a thread of its own.
    Batch,
    /// Each at once, by whoever ends it: whoever waits for it pays for the export.
    Simple,
}

/// A format in which context crosses a process boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Propagator {
    /// W3C Trace Context: `traceparent`, `tracestate`.
    #[value(name = "tracecontext")]
    TraceContext,
    /// W3C Baggage.
    Baggage,
    /// Zipkin's B3 in one header: `b3`.
    B3,
    /// Zipkin's B3 in several headers: `x-b3-traceid` …
    #[value(name = "b3multi")]
    B3Multi,
    /// Jaeger: `uber-trace-id`.
    Jaeger,
    /// None at all.
    None,
}

/// The shape of a console line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}
