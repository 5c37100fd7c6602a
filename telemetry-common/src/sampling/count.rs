//! A count of every span that starts, by what the sampler decides.
//!
//! The convention requires that non-recording spans are counted too, and span processors do not
//! receive those:
//! <https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/#metric-otelsdkspanstarted>.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use crate::{scope, semconv};

/// The values of `otel.span.parent.origin`.
const ORIGINS: [&str; 3] = ["none", "local", "remote"];
/// The values of `otel.span.sampling_result`.
const RESULTS: [&str; 3] = ["DROP", "RECORD_ONLY", "RECORD_AND_SAMPLE"];

/// The index of a local parent in [`ORIGINS`].
const LOCAL: usize = 1;
/// The index of a span that is dropped in [`RESULTS`].
const DROP: usize = 0;

/// The number of started spans, by parent origin and sampling result: the indices of [`ORIGINS`]
/// and [`RESULTS`].
static STARTED: [[AtomicU64; RESULTS.len()]; ORIGINS.len()] =
    [const { [const { AtomicU64::new(0) }; RESULTS.len()] }; ORIGINS.len()];

/// Counts a span whose parent in this process is not sampled, if the sampler need not be asked.
#[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
pub(crate) fn count_dropped_child() {
    STARTED[LOCAL][DROP].fetch_add(1, Ordering::Relaxed);
}

/// Delegates to the sampler, and counts its decisions.
#[derive(Clone, Debug)]
pub(crate) struct CountingSampler(pub(crate) Box<dyn ShouldSample>);

impl ShouldSample for CountingSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = &self.0;
        #[cfg(feature = "http")]
        let decides_anew = parent.is_some_and(crate::http::server::decides_anew);
        #[cfg(not(feature = "http"))]
        let decides_anew = false;
        let (deciding, links) = if decides_anew {
            (None, &[][..])
        } else {
            (parent, links)
        };
        let result = sampler.should_sample(deciding, trace_id, name, kind, attributes, links);
        let origin = parent.map_or(0, |parent| {
            let span = parent.span();
            match span.span_context() {
                parent if !parent.is_valid() => 0,
                parent if !parent.is_remote() => LOCAL,
                _ => 2,
            }
        });
        let decision = match result.decision {
            SamplingDecision::Drop => DROP,
            SamplingDecision::RecordOnly => 1,
            SamplingDecision::RecordAndSample => 2,
        };
        STARTED[origin][decision].fetch_add(1, Ordering::Relaxed);
        result
    }
}

/// Creates the metric that reads the counts at each export. It has only the series that occurred. Call
/// it after the meter provider is set.
pub(crate) fn observe() {
    scope::meter()
        .u64_observable_counter("otel.sdk.span.started")
        .with_unit("{span}")
        .with_description("Number of started spans, recorded or not")
        .with_callback(|observer| {
            for (counts, origin) in STARTED.iter().zip(ORIGINS) {
                for (count, result) in counts.iter().zip(RESULTS) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let origin = KeyValue::new(semconv::OTEL_SPAN_PARENT_ORIGIN, origin);
                        let result = KeyValue::new(semconv::OTEL_SPAN_SAMPLING_RESULT, result);
                        observer.observe(count, &[origin, result]);
                    }
                }
            }
        })
        .build();
}
