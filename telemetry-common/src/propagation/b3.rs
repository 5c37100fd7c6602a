//! B3 propagation: `b3: {trace-id}-{span-id}-{sampled}`, or the same values in separate headers.
//!
//! Format: <https://github.com/openzipkin/b3-propagation>.

use std::sync::LazyLock;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::TraceContextExt,
};

use super::{remote, with_remote};

/// B3 in the single header `b3`.
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
            // B3 lets the receiver decide if the sampling state is absent. Here it is sampled.
            remote(trace, span, is_sampled(parts.next().unwrap_or("1")))
        });
        with_remote(context, remote)
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&*FIELDS)
    }
}

/// B3 in the headers `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`.
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
        // The debug flag overrides the sampling state.
        let debug = extractor.get(FLAGS).filter(|flags| *flags == "1");
        let sampled = debug.or(extractor.get(SAMPLED));
        let sampled = is_sampled(sampled.unwrap_or("1"));
        let ids = extractor.get(TRACE).zip(extractor.get(SPAN));
        with_remote(
            context,
            ids.and_then(|(trace, span)| remote(trace, span, sampled)),
        )
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&*MULTI_FIELDS)
    }
}

/// Whether a sampling state means sampled. `d` is the debug flag, which implies sampled.
fn is_sampled(state: &str) -> bool {
    matches!(state, "1" | "true" | "d")
}
