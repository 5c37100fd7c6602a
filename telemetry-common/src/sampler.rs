//! The configured sampler, with a count of every span that starts.
//!
//! The convention requires that non-recording spans are counted too, and span processors do not
//! receive those:
//! <https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/#metric-otelsdkspanstarted>.

use std::sync::Arc;

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{Config, SamplingDecision, SamplingResult, ShouldSample};

use crate::pipeline_stats::{ParentOrigin, PipelineStats, Sampling, Started};

/// Delegates to the configured sampler, and counts its decisions.
#[derive(Clone, Debug)]
pub(crate) struct CountingSampler {
    sampler: Box<dyn ShouldSample>,
    stats: Arc<PipelineStats>,
}

impl CountingSampler {
    /// Creates the sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name.
    pub(crate) fn from_environment(stats: Arc<PipelineStats>) -> Self {
        Self {
            sampler: Config::default().sampler,
            stats,
        }
    }
}

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
        let sampler = &self.sampler;
        let result = sampler.should_sample(parent, trace_id, name, kind, attributes, links);
        let origin = parent.map_or(ParentOrigin::None, |parent| {
            let span = parent.span();
            match span.span_context() {
                parent if !parent.is_valid() => ParentOrigin::None,
                parent if parent.is_remote() => ParentOrigin::Remote,
                _ => ParentOrigin::Local,
            }
        });
        let sampling = match result.decision {
            SamplingDecision::Drop => Sampling::Drop,
            SamplingDecision::RecordOnly => Sampling::RecordOnly,
            SamplingDecision::RecordAndSample => Sampling::RecordAndSample,
        };
        self.stats.count_started(Started { origin, sampling });
        result
    }
}
