//! Spans as the specification wants them, whatever an instrumentation wrote.
//!
//! The specification says that setting an attribute again overwrites it; the SDK keeps both.
//! axum-tracing-opentelemetry writes empty strings for what it does not know and a vendor's
//! `span.type`. Here the last value of a key wins, and the empty ones and the vendor's go.

use std::{collections::HashSet, time::Duration};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// A span exporter that tidies each span on its way.
#[derive(Debug)]
pub(crate) struct Tidy<E>(pub(crate) E);

impl<E: SpanExporter> SpanExporter for Tidy<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(tidy);
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn tidy(span: &mut SpanData) {
    let mut seen = HashSet::with_capacity(span.attributes.len());
    span.attributes.reverse();
    span.attributes.retain(|attribute| {
        attribute.key.as_str() != "span.type"
            && attribute.value.as_str() != ""
            && seen.insert(attribute.key.clone())
    });
    span.attributes.reverse();
}
