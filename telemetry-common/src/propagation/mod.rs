//! Context propagation in the formats that `OTEL_PROPAGATORS` lists.
//!
//! An incoming request may carry trace contexts in several formats. The first valid one, in the
//! order of the list, becomes the parent. Baggage is read in addition. Outgoing requests carry all
//! listed formats.
//!
//! This crate implements B3 and Jaeger itself: of the published propagators, one is deprecated and
//! the other supports OpenTelemetry only up to 0.32.

mod b3;
mod jaeger;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId, global,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{SpanContext, TraceContextExt, TraceState},
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use crate::Propagator;
use b3::{B3, B3Multi};
use jaeger::Jaeger;

/// Sets the propagator of all `formats` for the process. They are in the order of
/// `OTEL_PROPAGATORS`.
pub(crate) fn install(formats: &[Propagator]) {
    global::set_text_map_propagator(propagator(formats));
}

fn propagator(formats: &[Propagator]) -> impl TextMapPropagator + Send + Sync + use<> {
    let formats: Vec<_> = formats.iter().map(|format| single(*format)).collect();
    let fields = formats.iter().flat_map(|format| format.fields());
    let fields = fields.map(str::to_owned).collect();
    FirstWins { formats, fields }
}

type Format = Box<dyn TextMapPropagator + Send + Sync>;

/// Returns the propagator of one format.
fn single(format: Propagator) -> Format {
    match format {
        Propagator::TraceContext => Box::new(TraceContextPropagator::new()),
        Propagator::Baggage => Box::new(BaggagePropagator::new()),
        Propagator::B3 => Box::new(B3),
        Propagator::B3Multi => Box::new(B3Multi),
        Propagator::Jaeger => Box::new(Jaeger),
    }
}

/// Injects all formats, and extracts the first valid trace context.
#[derive(Debug)]
struct FirstWins {
    formats: Vec<Format>,
    fields: Vec<String>,
}

impl TextMapPropagator for FirstWins {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        for format in &self.formats {
            format.inject_context(context, injector);
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        self.formats
            .iter()
            .fold(context.clone(), |current, format| {
                let next = format.extract_with_context(&current, extractor);
                let (before, after) = (current.span(), next.span());
                // A later format must not replace the span context, even if it has the same ids: it
                // may lack the trace state or have another sampling flag. Baggage does not change
                // it.
                let replaces = before.span_context().is_valid()
                    && after.span_context() != before.span_context();
                if replaces {
                    current.clone()
                } else {
                    next.clone()
                }
            })
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&self.fields)
    }
}

/// Returns the caller's span context, or `None` if an id is invalid. The ids are in hex and may
/// lack leading zeros.
fn remote(trace: &str, span: &str, sampled: bool) -> Option<SpanContext> {
    if trace.len() > 32 || span.len() > 16 {
        return None;
    }
    let trace = TraceId::from(u128::from_str_radix(trace, 16).ok()?);
    let span = SpanId::from(u64::from_str_radix(span, 16).ok()?);
    let flags = TraceFlags::default().with_sampled(sampled);
    let remote = SpanContext::new(trace, span, flags, true, TraceState::default());
    remote.is_valid().then_some(remote)
}

/// Returns `context` with the caller's span context, if there is one.
fn with_remote(context: &Context, remote: Option<SpanContext>) -> Context {
    remote.map_or_else(
        || context.clone(),
        |remote| context.with_remote_span_context(remote),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry::baggage::BaggageExt;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn carrier(headers: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        headers.iter().map(owned).collect()
    }

    fn extracted(formats: &[Propagator], headers: &[(&str, &str)]) -> Context {
        propagator(formats).extract_with_context(&Context::new(), &carrier(headers))
    }

    // proves: T5 T6
    #[test]
    fn each_format_is_understood_and_sent_on() {
        for (format, headers) in [
            (
                Propagator::TraceContext,
                vec![("traceparent", format!("00-{TRACE}-{SPAN}-01"))],
            ),
            (Propagator::B3, vec![("b3", format!("{TRACE}-{SPAN}-1"))]),
            (
                Propagator::B3Multi,
                vec![
                    ("x-b3-traceid", TRACE.to_owned()),
                    ("x-b3-spanid", SPAN.to_owned()),
                    ("x-b3-sampled", "1".to_owned()),
                ],
            ),
            (
                Propagator::Jaeger,
                vec![("uber-trace-id", format!("{TRACE}:{SPAN}:0:1"))],
            ),
        ] {
            let headers: Vec<_> = headers
                .iter()
                .map(|(key, value)| (*key, &**value))
                .collect();
            let context = extracted(&[format], &headers);
            let span = context.span().span_context().clone();
            assert_eq!(span.trace_id().to_string(), TRACE, "{format:?}");
            assert_eq!(span.span_id().to_string(), SPAN, "{format:?}");
            assert!(span.is_sampled(), "{format:?}");
            let mut sent = HashMap::new();
            propagator(&[format]).inject_context(&context, &mut sent);
            for (key, value) in headers {
                assert_eq!(sent.get(key).map(String::as_str), Some(value), "{format:?}");
            }
            let none = extracted(&[], &[("traceparent", "x")]);
            assert!(!none.span().span_context().is_valid());
        }
    }

    // proves: T6
    #[test]
    fn the_first_listed_format_wins_and_baggage_is_also_read() {
        let traceparent = format!("00-{TRACE}-{SPAN}-01");
        let headers = [
            ("traceparent", &*traceparent),
            ("uber-trace-id", "1:2:0:1"),
            ("baggage", "synthetic=true"),
        ];
        let (w3c, jaeger, baggage) = (
            Propagator::TraceContext,
            Propagator::Jaeger,
            Propagator::Baggage,
        );
        let context = extracted(&[w3c, baggage, jaeger], &headers);
        assert_eq!(context.span().span_context().span_id().to_string(), SPAN);
        assert!(context.baggage().get("synthetic").is_some());
        let context = extracted(&[jaeger, w3c], &headers);
        assert_eq!(
            context.span().span_context().span_id().to_string(),
            "0000000000000002"
        );
        let context = extracted(&[w3c, jaeger], &headers[1..]);
        assert!(
            context.span().span_context().is_valid(),
            "the second format is used if the first is absent"
        );
    }

    #[test]
    fn a_later_format_that_names_the_same_span_changes_neither_state_nor_sampling() {
        let traceparent = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{TRACE}-{SPAN}-0");
        let headers = [
            ("traceparent", &*traceparent),
            ("tracestate", "vendor=1"),
            ("b3", &*b3),
        ];
        let context = extracted(&[Propagator::TraceContext, Propagator::B3], &headers);
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_state().get("vendor"), Some("1"));
        assert!(span.is_sampled());
    }

    #[test]
    fn an_invalid_header_is_ignored() {
        for junk in ["", "x", "1:2:0", "0:0:0:1", "1:2:0:1:9", "g:2:0:1"] {
            let context = extracted(&[Propagator::Jaeger], &[("uber-trace-id", junk)]);
            assert!(!context.span().span_context().is_valid(), "{junk:?}");
        }
        for junk in ["", "0", "1", "1-", "1-g-1", "0-0-1"] {
            let context = extracted(&[Propagator::B3], &[("b3", junk)]);
            assert!(!context.span().span_context().is_valid(), "{junk:?}");
        }
    }
}
