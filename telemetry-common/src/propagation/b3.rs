//! B3: `b3: {trace-id}-{span-id}-{sampled}`, or the same in several headers.
//!
//! See <https://github.com/openzipkin/b3-propagation>.

use std::sync::LazyLock;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::TraceContextExt,
};

use super::{continued, remote};

#[derive(Debug)]
pub(super) struct B3;

const SINGLE: &str = "b3";
static FIELDS: LazyLock<[String; 1]> = LazyLock::new(|| [SINGLE.to_owned()]);

impl TextMapPropagator for B3 {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let span = context.span().span_context().clone();
        if span.is_valid() {
            let sampled = u8::from(span.is_sampled());
            let value = format!("{}-{}-{sampled}", span.trace_id(), span.span_id());
            injector.set(SINGLE, value);
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let remote = extractor.get(SINGLE).and_then(|header| {
            let mut parts = header.split('-');
            let (trace, span) = (parts.next()?, parts.next()?);
            // Left out, the decision is ours.
            remote(trace, span, is_sampled(parts.next().unwrap_or("1")))
        });
        continued(context, remote)
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&*FIELDS)
    }
}

#[derive(Debug)]
pub(super) struct B3Multi;

const TRACE: &str = "x-b3-traceid";
const SPAN: &str = "x-b3-spanid";
const SAMPLED: &str = "x-b3-sampled";
const FLAGS: &str = "x-b3-flags";
static MULTI_FIELDS: LazyLock<[String; 4]> =
    LazyLock::new(|| [TRACE, SPAN, SAMPLED, FLAGS].map(str::to_owned));

impl TextMapPropagator for B3Multi {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let span = context.span().span_context().clone();
        if span.is_valid() {
            injector.set(TRACE, span.trace_id().to_string());
            injector.set(SPAN, span.span_id().to_string());
            injector.set(SAMPLED, u8::from(span.is_sampled()).to_string());
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let sampled = extractor.get(FLAGS).or(extractor.get(SAMPLED));
        let sampled = is_sampled(sampled.unwrap_or("1"));
        let ids = extractor.get(TRACE).zip(extractor.get(SPAN));
        continued(
            context,
            ids.and_then(|(trace, span)| remote(trace, span, sampled)),
        )
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&*MULTI_FIELDS)
    }
}

/// `d` is debug: more than sampled.
fn is_sampled(word: &str) -> bool {
    matches!(word, "1" | "true" | "d")
}
