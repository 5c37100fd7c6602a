//! The sampler of traces that begin with a link.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

use super::{Randomness, state};

/// Samples a trace that begins with a link if the span at the other end is sampled. Another sampler decides
/// about all other traces.
///
/// The first link decides. The spans of the new trace carry the threshold and the randomness of the other one in
/// their trace state (`ot=th:…;rv:…`), so that later stages keep or drop both traces together.
///
/// ```
/// use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
/// use telemetry_common::sampling::{ConsistentProbability, LinkBased};
///
/// let root = LinkBased::new(ConsistentProbability::new(0.1));
/// let provider = SdkTracerProvider::builder().with_sampler(Sampler::parent_based(root)).build();
/// ```
#[derive(Clone, Debug)]
pub struct LinkBased(Box<dyn ShouldSample>);

impl LinkBased {
    /// `unlinked` decides about spans that have a parent or no link.
    pub fn new(unlinked: impl ShouldSample + 'static) -> Self {
        Self(Box::new(unlinked))
    }
}

impl ShouldSample for LinkBased {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        match links.first() {
            Some(link) if !has_parent && link.span_context.is_valid() => follow(&link.span_context),
            _ => self
                .0
                .should_sample(parent, trace_id, name, kind, attributes, links),
        }
    }
}

/// Decides as it was decided about `linked`.
fn follow(linked: &SpanContext) -> SamplingResult {
    if !linked.is_sampled() {
        return SamplingResult {
            decision: SamplingDecision::Drop,
            attributes: Vec::new(),
            trace_state: TraceState::default(),
        };
    }
    let randomness = Randomness::of(linked);
    let threshold = state::threshold(linked.trace_state());
    // One that would have rejected the trace is not its threshold.
    let threshold = threshold.filter(|threshold| threshold.accepts(randomness));
    SamplingResult {
        decision: SamplingDecision::RecordAndSample,
        attributes: Vec::new(),
        trace_state: state::with(&TraceState::default(), threshold, Some(randomness)),
    }
}

/// Returns the context of a span without its threshold, for a link from a trace that follows the span and is kept with
/// a higher probability.
#[cfg(feature = "kafka")]
pub(crate) fn without_threshold(span: &SpanContext) -> SpanContext {
    if state::threshold(span.trace_state()).is_none() {
        return span.clone();
    }
    let randomness = Some(Randomness::of(span));
    SpanContext::new(
        span.trace_id(),
        span.span_id(),
        span.trace_flags(),
        span.is_remote(),
        state::with(span.trace_state(), None, randomness),
    )
}

#[cfg(test)]
mod tests {
    use opentelemetry::{SpanId, TraceFlags};
    use opentelemetry_sdk::trace::Sampler;

    use super::*;

    const ID: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

    fn span(flags: u8, state: &str) -> SpanContext {
        let state = match state {
            "" => TraceState::default(),
            ot => TraceState::from_key_value([("ot", ot)]).unwrap(),
        };
        let (trace, span) = (TraceId::from(ID), SpanId::from(1));
        SpanContext::new(trace, span, TraceFlags::new(flags), true, state)
    }

    fn sample(unlinked: Sampler, parent: &Context, links: &[SpanContext]) -> SamplingResult {
        let links: Vec<_> = links.iter().cloned().map(Link::with_context).collect();
        let kind = SpanKind::Consumer;
        let sampler = LinkBased::new(unlinked);
        sampler.should_sample(Some(parent), TraceId::from(7), "", &kind, &[], &links)
    }

    // proves: N30
    #[test]
    fn the_first_link_decides_and_its_randomness_is_carried() {
        let root = Context::new();
        let sampled = |flags, state| {
            let other = span(1 - flags, "");
            sample(Sampler::AlwaysOn, &root, &[span(flags, state), other])
        };
        for (state, expected) in [
            ("", "ot=rv:0a0b0c0d0e0f10"),
            ("th:08", "ot=th:08;rv:0a0b0c0d0e0f10"),
            (
                "rv:ffffffffffffff;th:fd70a",
                "ot=th:fd70a;rv:ffffffffffffff",
            ),
            ("th:c", "ot=rv:0a0b0c0d0e0f10"),
        ] {
            let result = sampled(1, state);
            assert_eq!(
                result.decision,
                SamplingDecision::RecordAndSample,
                "{state}"
            );
            assert_eq!(result.trace_state.header(), expected, "{state}");
        }
        assert_eq!(sampled(0, "th:0").decision, SamplingDecision::Drop);
    }

    #[test]
    fn without_a_link_or_with_a_parent_the_other_sampler_decides() {
        let root = Context::new();
        let result = sample(Sampler::AlwaysOn, &root, &[]);
        assert_eq!(result.decision, SamplingDecision::RecordAndSample);
        let result = sample(Sampler::AlwaysOff, &root, &[SpanContext::NONE]);
        assert_eq!(result.decision, SamplingDecision::Drop);
        let child = root.with_remote_span_context(span(1, ""));
        let result = sample(Sampler::AlwaysOn, &child, &[span(0, "")]);
        assert_eq!(result.decision, SamplingDecision::RecordAndSample);
    }
}
