//! The ids of a line: trace id, span id and request id.

use std::{fmt::Display, sync::OnceLock};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt},
};
use tracing::{
    Event,
    dispatcher::{self, WeakDispatch},
};
use tracing_opentelemetry::get_otel_context;

use crate::RequestId;

/// The global subscriber, which has the OpenTelemetry context of each span.
static DISPATCH: OnceLock<WeakDispatch> = OnceLock::new();

/// Stores the global subscriber. Call it after the subscriber is installed.
pub(crate) fn store_dispatch() {
    dispatcher::get_default(|dispatch| {
        let _ = DISPATCH.set(dispatch.downgrade());
    });
}

/// The ids of a line, as far as there are any.
#[derive(Clone)]
pub(super) struct Ids {
    span: Option<SpanContext>,
    request: Option<RequestId>,
}

impl Ids {
    /// Returns the ids of an event.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let span = match event.parent() {
            // `error!(parent: &span, …)`: the span of the event is not the current one.
            Some(parent) => {
                // Not `dispatcher::get_default`: within an event it returns no subscriber.
                let dispatch = DISPATCH.get().and_then(WeakDispatch::upgrade);
                let context = dispatch.and_then(|dispatch| get_otel_context(parent, &dispatch));
                context.map(|context| context.span().span_context().clone())
            }
            None if event.is_root() => None,
            None => Some(current_span()),
        };
        Self {
            span: span.filter(SpanContext::is_valid),
            request: RequestId::current(),
        }
    }

    /// Returns the ids of what is current on this thread.
    pub(super) fn current() -> Self {
        Self {
            span: Some(current_span()).filter(SpanContext::is_valid),
            request: RequestId::current(),
        }
    }

    /// Calls `f` with the name and the value of each id.
    pub(super) fn for_each(&self, mut f: impl FnMut(&'static str, &dyn Display)) {
        if let Some(span) = &self.span {
            f("trace_id", &span.trace_id());
            f("span_id", &span.span_id());
        }
        if let Some(request) = &self.request {
            f("request_id", request);
        }
    }
}

fn current_span() -> SpanContext {
    Context::map_current(|context| context.span().span_context().clone())
}
