//! The layers and the filter of each, as one table.
//!
//! | layer   | sees                                              | set by     |
//! |---------|---------------------------------------------------|------------|
//! | traces  | spans from `info` up, without the exporters' own  | here       |
//! | logs    | events from `info` up, without the exporters' own | here       |
//! | console | events                                            | `RUST_LOG` |
//!
//! The exporters' own spans and events are off in the first two: exporting telemetry must not
//! create telemetry. Events stay out of the trace layer: they are log records with the span's
//! ids, and an `error!` would paint its span red whatever the outcome.

use std::io::{IsTerminal, stderr};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{logs::SdkLoggerProvider, trace::SdkTracerProvider};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{InitError, LogFormat, Telemetry, TelemetryConfig, console};

/// Crates that work for the exporters. Targets match by prefix: `opentelemetry` covers the SDK and
/// the OTLP exporter, whose targets start with it.
const EXPORTERS: [&str; 6] = ["opentelemetry", "hyper", "h2", "tonic", "tower", "reqwest"];

pub(crate) fn install(config: &TelemetryConfig, telemetry: &Telemetry) -> Result<(), InitError> {
    let format = config.log_format.unwrap_or_else(|| {
        if stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        }
    });
    registry()
        .with(telemetry.traces.as_ref().map(traces))
        .with(telemetry.logs.as_ref().map(logs))
        .with(console::layer(format).with_filter(EnvFilter::builder().parse(&config.rust_log)?))
        .try_init()?;
    Ok(())
}

/// Runs `build` with a plain console: the SDK complains about bad settings while it is built, and
/// the real subscriber needs what is being built.
pub(crate) fn while_starting<T>(build: impl FnOnce() -> T) -> T {
    let console = fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(stderr)
        .finish();
    tracing::subscriber::with_default(console, build)
}

/// Spans to the tracer. Location, thread and idle time would be eight more attributes on every
/// span, about half of what a span costs.
pub(crate) fn traces<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let spans = filter_fn(|metadata| metadata.is_span()).with_max_level_hint(LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("telemetry-common"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_filter(exported().and(spans))
}

/// Events to the log exporter.
pub(crate) fn logs<S>(provider: &SdkLoggerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    OpenTelemetryTracingBridge::new(provider).with_filter(exported())
}

fn exported() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(EXPORTERS.map(|target| (target, LevelFilter::OFF)))
}
