//! Instrumentation scopes: who made a span, a metric or a log record.

use std::sync::OnceLock;

use opentelemetry::{InstrumentationScope, global, metrics::Meter};

use crate::{Service, semconv};

/// The scope of what this crate makes.
pub(crate) fn scope() -> InstrumentationScope {
    of(Service {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The meter of this crate. Call it after the meter provider is set: an instrument that is made
/// earlier never exports.
pub(crate) fn meter() -> Meter {
    global::meter_with_scope(scope())
}

/// The meter of a crate that [`service!`](crate::service) names: its name and version, and the
/// version of the conventions. Call it after [`init`](crate::init).
pub fn meter_of(library: Service) -> Meter {
    global::meter_with_scope(of(library))
}

/// The scope of a crate.
pub(crate) fn of(library: Service) -> InstrumentationScope {
    InstrumentationScope::builder(library.name)
        .with_version(library.version)
        .with_schema_url(semconv::SCHEMA_URL)
        .build()
}

/// The scopes between which exporters choose by the module that made a span or a log record.
#[derive(Debug)]
pub(crate) struct Scopes {
    /// This crate's.
    ours: InstrumentationScope,
    /// The application's.
    application: InstrumentationScope,
}

static SCOPES: OnceLock<Scopes> = OnceLock::new();

impl Scopes {
    /// Sets the application's scope, once for the process.
    pub(crate) fn set(application: Service) {
        let _ = SCOPES.set(Self {
            ours: scope(),
            application: of(application),
        });
    }

    /// The scope of what the module `target` made: this crate's for itself, for its HTTP server span
    /// and where no application is set, else the application's.
    pub(crate) fn of_span(target: &str) -> Option<&'static InstrumentationScope> {
        let scopes = SCOPES.get()?;
        let ours = crate_of(target) == "telemetry_common" || target.starts_with("otel::");
        Some(if ours {
            &scopes.ours
        } else {
            &scopes.application
        })
    }

    /// The scope of a log record of the module `target`. `None` for a record without an event name:
    /// it is another crate's, whose version is unknown.
    pub(crate) fn of_log(target: &str, is_event: bool) -> Option<&'static InstrumentationScope> {
        let scopes = SCOPES.get()?;
        match crate_of(target) {
            "telemetry_common" => Some(&scopes.ours),
            _ => is_event.then_some(&scopes.application),
        }
    }
}

fn crate_of(target: &str) -> &str {
    target.split("::").next().unwrap_or(target)
}
