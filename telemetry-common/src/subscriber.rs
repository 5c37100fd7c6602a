//! The subscriber: its layers, and the filter of each layer.
//!
//! | layer              | receives                         | filter                    |
//! |--------------------|----------------------------------|---------------------------|
//! | traces             | spans                            | `TRACES_FILTER`           |
//! | console            | events, and spans for context    | `RUST_LOG`                |
//! | logs               | events, and spans for context    | `LOGS_FILTER`             |
//! | Sentry events      | spans, and warnings and errors   | `TRACES_FILTER` for spans |
//! | Sentry breadcrumbs | spans, and events from INFO      | `TRACES_FILTER` for spans |
//! | application        | spans and events                 | of each layer             |
//!
//! The layer of log records also reads the warnings of the OTLP exporters, which name the number of
//! rejected items. It does not export them.
//!
//! [`ConsoleFilter`] changes the filter of the console at run time. Instruments record metrics
//! without a layer, so no filter applies to them.
//!
//! Exporting telemetry must not create telemetry: the SDK suppresses the spans and log records of the
//! threads that export, and the Sentry layers do the same. The trace layer receives no events: they
//! are exported as log records with the span's ids. Otherwise an `error!` would set the status of
//! its span to Error even if the operation succeeded.

use std::io::stderr;

use opentelemetry::{Context, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{logs::SdkLoggerProvider, trace::SdkTracerProvider};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, Targets, dynamic_filter_fn},
    fmt,
    layer::{Filter, SubscriberExt},
    registry,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::{
    InitError, Telemetry, TelemetryConfig,
    builder::{BoxedLayer, Console},
    config::LogOutput,
    console::{self, ConsoleLayer, ConsoleWriter},
    layers::ContextLayer,
    log_fields::WithSpanFields,
    rate_limit::RateLimit,
    rejected::{OTLP_EXPORTER, ReadRejections},
    scope::scope,
};

/// The console layer with what controls it.
#[derive(Default)]
pub(crate) struct ConsoleLogs {
    layer: Option<BoxedLayer>,
    filter: ConsoleFilter,
    writer: Option<ConsoleWriter>,
}

impl ConsoleLogs {
    /// Builds the layer. It fails before anything of the process has changed.
    pub(crate) fn build(config: &TelemetryConfig, console: Console) -> Result<Self, InitError> {
        if let Console::Other(layer) = console {
            return Ok(Self {
                layer,
                ..Self::default()
            });
        }
        let filter = EnvFilter::builder().parse(&config.console_filter)?;
        let (filter, handle) = reload::Layer::new(filter);
        let has_span_fields = config.log_span_fields.contains(&LogOutput::Console);
        let layer = ConsoleLayer::new(config, has_span_fields).map_err(InitError::Console)?;
        let writer = layer.writer();
        let context = has_span_fields.then_some(ContextLayer);
        let limit = RateLimit::new(config.log_rate_limit, "console");
        let accepts = if layer.has_spans() {
            |_: &Metadata<'_>| true
        } else {
            can_contain_lines
        };
        let layer = Layer::<Registry>::and_then(context, layer);
        let layer = layer.with_filter(filter.and(by_callsite(accepts)).and(limit));
        Ok(Self {
            layer: Some(layer.boxed()),
            filter: ConsoleFilter(Some(handle)),
            writer: Some(writer),
        })
    }
}

/// Installs the subscriber with the layers of this crate, and then those of the application.
pub(crate) fn install(
    config: &TelemetryConfig,
    telemetry: &mut Telemetry,
    console: ConsoleLogs,
    application: Vec<BoxedLayer>,
) -> Result<(), InitError> {
    telemetry.console = console.filter;
    telemetry.console_writer = console.writer;
    let mut layers = Vec::with_capacity(5 + application.len());
    if let Some(provider) = &telemetry.traces {
        layers.push(traces(provider, &config.traces_filter).boxed());
    }
    // After the trace layer: the lines of a span have its ids.
    layers.extend(console.layer);
    // It also reads what receivers of the other signals reject.
    if telemetry.exports() {
        let limit = RateLimit::new(config.log_rate_limit, "logs");
        let has_span_fields = config.log_span_fields.contains(&LogOutput::Otlp);
        let provider = telemetry.logs.as_ref();
        layers.push(logs(provider, &config.logs_filter, limit, has_span_fields).boxed());
    }
    // After the trace layer, which stores the span context that the Sentry layer reads.
    #[cfg(feature = "sentry")]
    if let Some(reporter) = &telemetry.sentry {
        layers.push(crate::sentry::layers(reporter, config).boxed());
    }
    layers.extend(application);
    registry().with(layers).try_init()?;
    console::store_dispatch();
    Ok(())
}

/// The filter of the console logs, which can be read and changed while the process runs.
#[derive(Clone, Debug, Default)]
pub struct ConsoleFilter(Option<reload::Handle<EnvFilter, Registry>>);

/// The reason why [`ConsoleFilter`] could not read or change the filter.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// The string is not a valid filter.
    #[error("{0}")]
    Parse(#[from] tracing_subscriber::filter::ParseError),
    /// The subscriber is not installed yet, or no longer exists.
    #[error("the console filter is not available: telemetry is not running")]
    Gone,
}

impl ConsoleFilter {
    /// Returns the current filter as `EnvFilter` directives, the format of `RUST_LOG`.
    pub fn get(&self) -> Result<String, BadFilter> {
        let handle = self.0.as_ref().ok_or(BadFilter::Gone)?;
        let filter = handle.with_current(ToString::to_string);
        filter.map_err(|_| BadFilter::Gone)
    }

    /// Replaces the filter by `directives`, in the format of `RUST_LOG`, and logs the change.
    ///
    /// If `directives` is not a valid filter, it returns an error and the filter stays as it was.
    pub fn set(&self, directives: &str) -> Result<(), BadFilter> {
        let filter = EnvFilter::builder().parse(directives)?;
        let handle = self.0.as_ref().ok_or(BadFilter::Gone)?;
        let before = self.get()?;
        // Logged before the change, because the new filter may disable this event.
        warn!(
            name: "telemetry_common.console_filter.changed",
            "console filter was changed from {before:?} to {directives:?}"
        );
        handle.reload(filter).map_err(|_| BadFilter::Gone)
    }
}

/// Runs `build` with a temporary subscriber that logs warnings to stderr.
///
/// The SDK logs invalid settings while its providers are built, and the real subscriber can be
/// installed only after that, because it contains the providers.
pub(crate) fn while_starting<T>(build: impl FnOnce() -> T) -> T {
    let console = fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(stderr)
        .finish();
    tracing::subscriber::with_default(console, build)
}

/// The layer that exports spans.
///
/// It records neither location, thread nor idle time. Those would be eight more attributes on every
/// span and about half of the CPU time of a span.
pub(crate) fn traces<S>(provider: &SdkTracerProvider, filter: &Targets) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope()))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(true) // the exporter derives the instrumentation scope from it
        .with_filter(filter.clone().and(exported_spans()))
}

/// The filter of the layers that receive the exported spans.
pub(crate) fn exported_spans<S>() -> impl Filter<S> + use<S> {
    by_callsite(is_exported_span).and(always_evaluated(|_| !is_exporting()))
}

/// The layer that exports events as log records, if there is a provider, and that reads how many
/// items a receiver rejected.
pub(crate) fn logs<S>(
    provider: Option<&SdkLoggerProvider>,
    filter: &Targets,
    limit: RateLimit,
    has_span_fields: bool,
) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let filter = provider.map_or_else(Targets::new, |_| filter.clone());
    let filter = filter.with_target(OTLP_EXPORTER, LevelFilter::WARN);
    let logs = provider.map(OpenTelemetryTracingBridge::new);
    let logs = WithSpanFields {
        logs: ReadRejections(logs),
        is_on: has_span_fields,
    };
    let context = has_span_fields.then_some(ContextLayer);
    let layer = Layer::<S>::and_then(context, logs);
    let accepts = if has_span_fields {
        |_: &Metadata<'_>| true
    } else {
        is_event
    };
    layer.with_filter(filter.and(by_callsite(accepts)).and(limit))
}

/// Whether `metadata` is that of a span that the trace layer exports. The spans at the edges are
/// exported without it.
fn is_exported_span(metadata: &Metadata<'_>) -> bool {
    #[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
    if metadata.target() == crate::edge::TARGET {
        return false;
    }
    !metadata.is_event()
}

/// Whether `metadata` is that of a line, or of a span in which lines are logged. The span of a statement has
/// none.
#[cfg_attr(
    not(feature = "sqlx"),
    expect(unused_variables, reason = "all other spans have lines")
)]
fn can_contain_lines(metadata: &Metadata<'_>) -> bool {
    #[cfg(feature = "sqlx")]
    if crate::db::is_statement(metadata) {
        return false;
    }
    true
}

/// Whether `metadata` is that of an event.
fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// Whether this thread exports telemetry. Entering a span there would end the suppression, because
/// the span has a context of its own.
pub(crate) fn is_exporting() -> bool {
    Context::is_current_telemetry_suppressed()
}

/// A filter that tracing evaluates for every span and event, not once per callsite.
///
/// tracing caches for each callsite that a filter always accepts it, and does not evaluate that
/// filter again. The layer then uses the result of the last filter evaluation on this thread. A
/// standalone `enabled!`, as in rdkafka and sqlx, leaves such a result behind, and the next span
/// would be lost: <https://github.com/tokio-rs/tracing/issues/2519>.
pub(crate) fn always_evaluated<S>(accepts: fn(&Metadata<'_>) -> bool) -> impl Filter<S> + use<S> {
    dynamic_filter_fn(move |metadata, _| accepts(metadata)).with_max_level_hint(LevelFilter::TRACE)
}

/// A filter by the static properties of spans and events, as [`always_evaluated`]. A callsite that
/// `accepts` rejects is never evaluated again, so that it costs nothing.
pub(crate) fn by_callsite<S>(accepts: fn(&Metadata<'_>) -> bool) -> impl Filter<S> + use<S> {
    let interest = move |metadata: &'static Metadata<'static>| {
        if accepts(metadata) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    };
    dynamic_filter_fn(move |metadata, _| accepts(metadata))
        .with_callsite_filter(interest)
        .with_max_level_hint(LevelFilter::TRACE)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tracing::{Event, Level, debug, enabled, subscriber::with_default, warn};
    use tracing_subscriber::layer;

    use super::*;

    /// A layer that counts the events it receives.
    #[derive(Default)]
    struct CountingLayer(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for CountingLayer {
        fn on_event(&self, _: &Event<'_>, _: layer::Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_standalone_enabled_check_does_not_suppress_the_next_event() {
        let (warnings, infos) = (CountingLayer::default(), CountingLayer::default());
        let count = Arc::clone(&warnings.0);
        let subscriber = registry()
            .with(warnings.with_filter(LevelFilter::WARN.and(always_evaluated(|_| true))))
            .with(infos.with_filter(LevelFilter::INFO.and(always_evaluated(|_| true))));
        with_default(subscriber, || {
            // One filter accepts and one rejects. No event follows that would clear the results.
            assert!(enabled!(Level::INFO));
            warn!("kept");
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_layer_of_the_application_receives_what_other_layers_reject() {
        let (warnings, all) = (CountingLayer::default(), CountingLayer::default());
        let counts = [Arc::clone(&warnings.0), Arc::clone(&all.0)];
        let warnings = warnings.with_filter(LevelFilter::WARN.and(always_evaluated(|_| true)));
        let layers: Vec<BoxedLayer> = vec![warnings.boxed(), all.boxed()];
        with_default(registry().with(layers), || {
            debug!("for the application alone");
            warn!("for both");
        });
        assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [1, 2]);
    }
}
