//! Jaeger propagation: `uber-trace-id: {trace-id}:{span-id}:{parent-span-id}:{flags}`.
//!
//! Format: <https://www.jaegertracing.io/sdk-migration/#propagation-format>.

use std::sync::LazyLock;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{SpanContext, TraceContextExt},
};

use super::{remote, with_remote};

#[derive(Debug)]
pub(super) struct Jaeger;

const HEADER: &str = "uber-trace-id";
static FIELDS: LazyLock<[String; 1]> = LazyLock::new(|| [HEADER.to_owned()]);

impl TextMapPropagator for Jaeger {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let span = context.span().span_context().clone();
        if span.is_valid() {
            let sampled = u8::from(span.is_sampled());
            let value = format!("{}:{}:0:{sampled}", span.trace_id(), span.span_id());
            injector.set(HEADER, value);
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        // Some clients encode the colons as %3A.
        let header = extractor.get(HEADER).map(|value| value.replace("%3A", ":"));
        with_remote(context, header.as_deref().and_then(parse))
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&*FIELDS)
    }
}

fn parse(header: &str) -> Option<SpanContext> {
    let parts: Vec<_> = header.split(':').collect();
    let [trace, span, _, flags] = parts[..] else {
        return None;
    };
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    remote(trace, span, sampled)
}
