//! The instrumentation scope of everything this crate makes.

use opentelemetry::{InstrumentationScope, global, metrics::Meter};

use crate::semconv;

pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(semconv::SCHEMA_URL)
        .build()
}

/// Ask after the meter provider is set: an instrument made earlier stays silent for ever.
pub(crate) fn meter() -> Meter {
    global::meter_with_scope(scope())
}
