//! Instrumentation scopes: the crate that created a span, a metric or a log record.

use std::sync::OnceLock;

#[cfg(any(feature = "http", feature = "kafka"))]
use opentelemetry::metrics::Histogram;
use opentelemetry::{InstrumentationScope, global, metrics::Meter};

use crate::{Service, semconv};

/// Returns the scope of this crate.
pub(crate) fn scope() -> InstrumentationScope {
    of(Service {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Returns the meter of this crate. Call it after the meter provider is set: an instrument that is
/// created earlier never exports.
pub(crate) fn meter() -> Meter {
    global::meter_with_scope(scope())
}

/// Creates a histogram of durations in seconds, with the boundaries that the conventions recommend
/// for HTTP and messaging.
#[cfg(any(feature = "http", feature = "kafka"))]
pub(crate) fn seconds(name: &'static str, description: &'static str) -> Histogram<f64> {
    meter()
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
        .build()
}

/// Returns the meter of a crate, which [`service!`](crate::service) identifies.
///
/// Its scope has the name and version of the crate and the schema URL of the semantic conventions.
/// Call it after [`Builder::install`](crate::Builder::install): an instrument that is created
/// earlier never exports.
///
/// ```
/// use telemetry_common::{meter_of, opentelemetry::KeyValue, service};
///
/// let sold = meter_of(service!())
///     .u64_counter("shop.items.sold")
///     .with_unit("{item}")
///     .build();
/// sold.add(3, &[KeyValue::new("shop.shelf", "fiction")]);
/// ```
pub fn meter_of(library: Service) -> Meter {
    global::meter_with_scope(of(library))
}

/// Returns the scope of a crate.
pub(crate) fn of(library: Service) -> InstrumentationScope {
    InstrumentationScope::builder(library.name)
        .with_version(library.version)
        .with_schema_url(semconv::SCHEMA_URL)
        .build()
}

/// The scopes of this process. Exporters select one by the module that created a span or a log
/// record.
#[derive(Debug)]
pub(crate) struct Scopes {
    /// The scope of this crate.
    own: InstrumentationScope,
    /// The scope of the application.
    application: InstrumentationScope,
}

static SCOPES: OnceLock<Scopes> = OnceLock::new();

impl Scopes {
    /// Sets the application's scope, once for the process.
    pub(crate) fn set(application: Service) {
        let _ = SCOPES.set(Self {
            own: scope(),
            application: of(application),
        });
    }

    /// Returns the scope of a span of the module `target`: that of this crate for its own spans,
    /// else that of the application. `None` if no application is set.
    pub(crate) fn of_span(target: &str) -> Option<&'static InstrumentationScope> {
        let scopes = SCOPES.get()?;
        Some(if is_own(target) {
            &scopes.own
        } else {
            &scopes.application
        })
    }

    /// Returns the scope of a log record of the module `target`. `None` for a record without an
    /// event name: another crate created it, whose version is not known.
    pub(crate) fn of_log(target: &str, is_event: bool) -> Option<&'static InstrumentationScope> {
        let scopes = SCOPES.get()?;
        if is_own(target) {
            Some(&scopes.own)
        } else {
            is_event.then_some(&scopes.application)
        }
    }
}

/// Whether `target` is a module of this crate.
fn is_own(target: &str) -> bool {
    crate_of(target) == crate_of(module_path!())
}

fn crate_of(target: &str) -> &str {
    target.split("::").next().unwrap_or(target)
}
