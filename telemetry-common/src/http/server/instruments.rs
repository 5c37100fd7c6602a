//! The histograms of the server layer.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, OnceLock},
};

use http::StatusCode;
use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Histogram},
};

use crate::{edge::Attributes, scope, semconv, series::SeriesOf};

/// The attributes of the measurements of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) method: &'static str,
    pub(super) scheme: &'static str,
    pub(super) protocol: &'static str,
    pub(super) route: Option<Arc<str>>,
    pub(super) status: Option<StatusCode>,
    pub(super) error_type: Option<Cow<'static, str>>,
}

/// The histograms of one combination of attributes.
#[derive(Debug)]
pub(super) struct Series {
    attributes: Vec<KeyValue>,
    duration: OnceLock<BoundHistogram<f64>>,
    request_size: OnceLock<BoundHistogram<u64>>,
    response_size: OnceLock<BoundHistogram<u64>>,
}

impl Series {
    /// Returns the series of requests with these attributes.
    pub(super) fn of(labels: Labels) -> Arc<Self> {
        static SERIES: SeriesOf<Labels, Series> = SeriesOf::new();
        SERIES.get(labels, Self::new)
    }

    fn new(labels: &Labels) -> Self {
        let mut attributes = Attributes(Vec::with_capacity(7));
        attributes.add(semconv::HTTP_REQUEST_METHOD, labels.method);
        attributes.add(semconv::URL_SCHEME, labels.scheme);
        attributes.add(semconv::NETWORK_PROTOCOL_VERSION, labels.protocol);
        attributes.add_some(semconv::HTTP_ROUTE, labels.route.clone());
        let status = labels.status.map(|status| i64::from(status.as_u16()));
        attributes.add_some(semconv::HTTP_RESPONSE_STATUS_CODE, status);
        attributes.add_some(semconv::ERROR_TYPE, labels.error_type.clone());
        Self {
            attributes: attributes.0,
            duration: OnceLock::new(),
            request_size: OnceLock::new(),
            response_size: OnceLock::new(),
        }
    }

    /// Records the duration of a request in seconds.
    pub(super) fn record_duration(&self, seconds: f64) {
        let bind = || INSTRUMENTS.duration.bind(&self.attributes);
        self.duration.get_or_init(bind).record(seconds);
    }

    /// Records the size of a request body in bytes.
    pub(super) fn record_request_size(&self, bytes: u64) {
        let bind = || INSTRUMENTS.request_size.bind(&self.attributes);
        self.request_size.get_or_init(bind).record(bytes);
    }

    /// Records the size of a response body in bytes.
    pub(super) fn record_response_size(&self, bytes: u64) {
        let bind = || INSTRUMENTS.response_size.bind(&self.attributes);
        self.response_size.get_or_init(bind).record(bytes);
    }
}

struct Instruments {
    duration: Histogram<f64>,
    request_size: Histogram<u64>,
    response_size: Histogram<u64>,
}

/// Created at the first request, because instruments must be created after telemetry is installed.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
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
