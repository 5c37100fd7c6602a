//! The histograms of the server layer.

use std::sync::LazyLock;

use opentelemetry::metrics::Histogram;

use crate::{scope, semconv};

pub(super) struct Instruments {
    pub(super) duration: Histogram<f64>,
    pub(super) request_size: Histogram<u64>,
    pub(super) response_size: Histogram<u64>,
}

/// Created at the first request, because instruments must be created after telemetry is installed.
pub(super) static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = scope::meter();
    let size = |name, description| {
        let size = meter.u64_histogram(name).with_unit("By");
        size.with_description(description)
            .with_boundaries(semconv::SIZE_BOUNDARIES.to_vec())
            .build()
    };
    Instruments {
        duration: scope::seconds(
            semconv::HTTP_SERVER_REQUEST_DURATION,
            "Duration of HTTP server requests",
        ),
        request_size: size(
            semconv::HTTP_SERVER_REQUEST_BODY_SIZE,
            "Size of HTTP server request bodies",
        ),
        response_size: size(
            semconv::HTTP_SERVER_RESPONSE_BODY_SIZE,
            "Size of HTTP server response bodies",
        ),
    }
});
