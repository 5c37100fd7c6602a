//! The OpenTelemetry parent of a server span.

use opentelemetry::{
    Context,
    baggage::{BaggageExt, KeyValueMetadata},
    global,
    propagation::Extractor,
    trace::{SpanContext, TraceContextExt},
};

use super::options::{Options, ParentTrace};
use crate::RequestId;

/// The value of a context in which the caller does not decide about sampling.
#[derive(Debug)]
struct DecidesAnew;

/// Whether the sampler decides about a span with this parent as for a trace without parent and links.
pub(crate) fn decides_anew(parent: &Context) -> bool {
    parent.get::<DecidesAnew>().is_some() && {
        // The value also reaches the inner spans, whose parent is a span of this process.
        let span = parent.span();
        span.span_context().is_remote() || !span.span_context().is_valid()
    }
}

/// Returns the parent of the server span, with the request id and the baggage of the request, and
/// the span context to link to.
pub(super) fn of_request(
    options: &Options,
    headers: &dyn Extractor,
    id: RequestId,
) -> (Context, Option<SpanContext>) {
    let current = Context::current_with_value(id.clone());
    let mut parent = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&current, headers)
    });
    if !options.trusts_baggage && !parent.baggage().is_empty() {
        parent = parent.with_cleared_baggage();
    }
    let caller = parent.span().span_context().clone();
    if !caller.is_remote() {
        return (parent, None);
    }
    match options.parent {
        ParentTrace::Continue if options.trusts_sampling => (parent, None),
        ParentTrace::Continue => (parent.with_value(DecidesAnew), None),
        ParentTrace::Link => (new_trace(&parent, id).with_value(DecidesAnew), Some(caller)),
        ParentTrace::Ignore => (new_trace(&parent, id), None),
    }
}

/// Returns a context without a span, with the baggage of `caller`.
fn new_trace(caller: &Context, id: RequestId) -> Context {
    let baggage = caller.baggage().iter().map(|(key, (value, metadata))| {
        KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
    });
    Context::new().with_value(id).with_baggage(baggage)
}
