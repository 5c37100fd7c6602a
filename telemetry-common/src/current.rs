//! What is current on a thread: the span, the OpenTelemetry context, and the Sentry hub.

#[cfg(any(feature = "http", feature = "kafka"))]
use std::borrow::Cow;
#[cfg(feature = "sentry")]
use std::sync::Arc;

use opentelemetry::Context;
#[cfg(feature = "sentry")]
use sentry::Hub;
use tracing::Span;

/// The span, the OpenTelemetry context (with baggage and the [`RequestId`](crate::RequestId)) and
/// the Sentry hub in which work runs. Work that moves to another task or thread takes them along.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) span: Span,
    pub(crate) context: Context,
    /// `None` if Sentry is off, or if the hub stays as it is.
    #[cfg(feature = "sentry")]
    pub(crate) hub: Option<Arc<Hub>>,
}

impl Current {
    /// Returns what is current on this thread.
    pub(crate) fn capture() -> Self {
        Self {
            span: Span::current(),
            context: Context::current(),
            #[cfg(feature = "sentry")]
            hub: crate::sentry::current_hub(),
        }
    }

    /// Returns what is current in a request or in the processing of a message: `span` and `context`,
    /// and a Sentry hub of its own, whose events have this transaction name and these tags.
    #[cfg(any(feature = "http", feature = "kafka"))]
    pub(crate) fn of_request(
        span: Span,
        context: Context,
        transaction: impl FnOnce() -> Cow<'static, str>,
        tags: &[(&str, Option<&str>)],
    ) -> Self {
        #[cfg(feature = "sentry")]
        let hub = crate::sentry::isolated_hub().inspect(|hub| {
            hub.configure_scope(|scope| {
                scope.set_transaction(Some(&transaction()));
                for (key, value) in tags {
                    if let Some(value) = value {
                        scope.set_tag(key, value);
                    }
                }
            });
        });
        #[cfg(not(feature = "sentry"))]
        let _ = (transaction, tags);
        Self {
            #[cfg(feature = "sentry")]
            hub,
            ..Self::of_call(span, context)
        }
    }

    /// Returns `span` and `context` without a hub of its own: that of the task that polls the work stays
    /// current.
    #[cfg(any(feature = "http", feature = "kafka", feature = "sqlx"))]
    pub(crate) fn of_call(span: Span, context: Context) -> Self {
        // A line about the start of the span has the ids of the context in which it is first entered.
        if !span.is_disabled() {
            let _context = context.clone().attach();
            span.in_scope(|| {});
        }
        Self {
            span,
            context,
            #[cfg(feature = "sentry")]
            hub: None,
        }
    }

    /// Makes all of them current while `work` runs.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        // The span first: entering it sets its own context, and `context` may be an inner one.
        let _span = self.span.enter();
        let _context = self.context.clone().attach();
        #[cfg(feature = "sentry")]
        if let Some(hub) = &self.hub {
            return Hub::run(Arc::clone(hub), work);
        }
        work()
    }
}
