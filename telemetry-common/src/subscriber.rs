//! The layers and the filter of each, as one table.
//!
//! | layer   | sees                               | set by          | while running |
//! |---------|------------------------------------|-----------------|---------------|
//! | traces  | spans, without the exporters' own  | `TRACES_FILTER` | –             |
//! | logs    | events, without the exporters' own | `LOGS_FILTER`   | –             |
//! | console | events                             | `RUST_LOG`      | [`ConsoleFilter`] |
//!
//! Metrics are made by instruments and by no layer: no filter touches them.
//!
//! The exporters' own spans and events are off in the first two: exporting telemetry must not
//! create telemetry. Events stay out of the trace layer: they are log records with the span's
//! ids, and an `error!` would paint its span red whatever the outcome.

use std::io::stderr;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::{logs::SdkLoggerProvider, trace::SdkTracerProvider};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter, warn};
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

use crate::{InitError, Telemetry, TelemetryConfig, console, rejected, scope::scope};

/// Crates that work for the exporters. Targets match by prefix: `opentelemetry` covers the SDK and
/// the OTLP exporter, whose targets start with it.
const EXPORTERS: [&str; 6] = ["opentelemetry", "hyper", "h2", "tonic", "tower", "reqwest"];

pub(crate) fn install(
    config: &TelemetryConfig,
    telemetry: &mut Telemetry,
) -> Result<(), InitError> {
    let format = config.console_format();
    let filter = EnvFilter::builder().parse(&config.rust_log)?;
    let (filter, handle) = reload::Layer::new(filter);
    telemetry.console = ConsoleFilter(Some(handle));
    let spans = |provider| traces(provider, &config.traces_filter);
    let events = |provider| logs(provider, &config.logs_filter);
    let subscriber = registry()
        // First, for what can be exchanged is typed by what stands below it.
        .with(console::layer(format).with_filter(filter.and(always_evaluated(|_| true))))
        .with(telemetry.traces.as_ref().map(spans))
        .with(telemetry.logs.as_ref().map(events))
        .with(rejected::layer());
    // After the traces: an event asks for its span.
    #[cfg(feature = "sentry")]
    let errors = |reporter| crate::sentry::layers(reporter, &config.traces_filter);
    #[cfg(feature = "sentry")]
    let subscriber = subscriber.with(telemetry.sentry.as_ref().map(errors));
    subscriber.try_init()?;
    console::store_dispatch();
    Ok(())
}

/// What the console shows: it can be read and changed while the process runs.
#[derive(Clone, Debug, Default)]
pub struct ConsoleFilter(Option<reload::Handle<EnvFilter, Registry>>);

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// It cannot be read.
    #[error("{0}")]
    Parse(#[from] tracing_subscriber::filter::ParseError),
    /// There is nothing to set it on: telemetry has not started, or is gone.
    #[error("there is no console")]
    Gone,
}

impl ConsoleFilter {
    /// The filter as `RUST_LOG` would have it.
    pub fn get(&self) -> Result<String, BadFilter> {
        let handle = self.0.as_ref().ok_or(BadFilter::Gone)?;
        let read = handle.with_current(ToString::to_string);
        read.map_err(|_| BadFilter::Gone)
    }

    /// Changes it, and logs that; a text that is no filter changes nothing.
    pub fn set(&self, text: &str) -> Result<(), BadFilter> {
        let filter = EnvFilter::builder().parse(text)?;
        let handle = self.0.as_ref().ok_or(BadFilter::Gone)?;
        let before = self.get()?;
        // Said under the old filter and not the new one, which may be silent.
        warn!(
            name: "telemetry.console_filter.changed",
            "the console's filter was {before:?} and is now {text:?}"
        );
        handle.reload(filter).map_err(|_| BadFilter::Gone)
    }
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
pub(crate) fn traces<S>(provider: &SdkTracerProvider, filter: &Targets) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let spans = always_evaluated(|metadata| !metadata.is_event());
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope()))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(true) // the exporter makes a scope of it
        .with_filter(exported(filter).and(spans))
}

/// Events to the log exporter.
pub(crate) fn logs<S>(provider: &SdkLoggerProvider, filter: &Targets) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    OpenTelemetryTracingBridge::new(provider)
        .with_filter(exported(filter).and(always_evaluated(|_| true)))
}

/// The filter of an exported signal: whatever it says, the exporters' own stays out.
pub(crate) fn exported(filter: &Targets) -> Targets {
    filter
        .clone()
        .with_targets(EXPORTERS.map(|target| (target, LevelFilter::OFF)))
}

/// A filter that is asked about every span and event, not once for each place in the code.
///
/// A layer that accepts all a place emits is not asked again, and then takes the answer that the
/// last question on this thread left behind. A bare `enabled!`, as rdkafka and sqlx ask it, leaves
/// one: the next span would vanish (<https://github.com/tokio-rs/tracing/issues/2519>).
pub(crate) fn always_evaluated<S>(accepts: fn(&Metadata<'_>) -> bool) -> impl Filter<S> {
    dynamic_filter_fn(move |metadata, _| accepts(metadata)).with_max_level_hint(LevelFilter::TRACE)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tracing::{Event, Level, enabled, subscriber::with_default, warn};
    use tracing_subscriber::layer::Context;

    use super::*;

    /// A layer that counts the events it hears.
    #[derive(Default)]
    struct Heard(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_bare_question_leaves_no_answer_behind() {
        let (quiet, loud) = (Heard::default(), Heard::default());
        let heard = Arc::clone(&quiet.0);
        let subscriber = registry()
            .with(quiet.with_filter(LevelFilter::WARN.and(always_evaluated(|_| true))))
            .with(loud.with_filter(LevelFilter::INFO.and(always_evaluated(|_| true))));
        with_default(subscriber, || {
            // One layer says yes, the other no, and nothing follows that would use the answers up.
            assert!(enabled!(Level::INFO));
            warn!("kept");
        });
        assert_eq!(heard.load(Ordering::Relaxed), 1);
    }
}
