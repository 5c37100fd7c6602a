//! The number of requests in progress.
//!
//! Each request changes it twice, so it is an atomic number for each combination of attributes, which
//! the metric reads at each export.

use std::sync::{
    LazyLock,
    atomic::{AtomicI64, Ordering},
};

use opentelemetry::KeyValue;

use crate::{
    http::method::{self, OTHER},
    scope, semconv,
};

const SCHEMES: [&str; 2] = ["http", "https"];
/// The number of a combination that has not occurred. The metric does not report it.
const NONE: i64 = i64::MIN;

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest(&'static AtomicI64);

impl ActiveRequest {
    /// Counts a request. `method` is a known method or `_OTHER`, `scheme` is `http` or `https`.
    pub(super) fn new(method: &str, scheme: &str) -> Self {
        LazyLock::force(&METRIC);
        let counts = REQUESTS.iter().find(|counts| counts.0 == method);
        let (_, counts) = counts.unwrap_or(&REQUESTS[0]);
        let count = &counts[usize::from(scheme == SCHEMES[1])];
        let _ = count.compare_exchange(NONE, 0, Ordering::Relaxed, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Counts = (&'static str, [AtomicI64; SCHEMES.len()]);

static REQUESTS: LazyLock<Vec<Counts>> = LazyLock::new(|| {
    let methods = [OTHER].into_iter().chain(method::all());
    let counts = || SCHEMES.map(|_| AtomicI64::new(NONE));
    methods.map(|method| (method, counts())).collect()
});

/// Created at the first request, because instruments must be created after telemetry is installed.
static METRIC: LazyLock<()> = LazyLock::new(|| {
    scope::meter()
        .i64_observable_up_down_counter(semconv::HTTP_SERVER_ACTIVE_REQUESTS)
        .with_unit("{request}")
        .with_description("Number of HTTP server requests in progress")
        .with_callback(|observer| {
            for (method, counts) in REQUESTS.iter() {
                for (count, scheme) in counts.iter().zip(SCHEMES) {
                    let count = count.load(Ordering::Relaxed);
                    if count != NONE {
                        let method = KeyValue::new(semconv::HTTP_REQUEST_METHOD, *method);
                        let scheme = KeyValue::new(semconv::URL_SCHEME, scheme);
                        observer.observe(count, &[method, scheme]);
                    }
                }
            }
        })
        .build();
});
