//! The layers: what came before as breadcrumbs, what went wrong as events.

use std::sync::OnceLock;

use opentelemetry::{Context as Trace, KeyValue, trace::TraceContextExt};
use sentry::Hub;
use sentry_tracing::BreadcrumbLayer;
use tracing::{Dispatch, Event, Level, Subscriber, dispatcher::WeakDispatch};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, Targets},
    layer::Context,
    registry::LookupSpan,
};

use super::{Reporter, links::Links, report::Told};
use crate::{
    semconv,
    subscriber::{asked, exported},
};

/// Breadcrumbs after events: an event is none of its own.
pub(crate) fn layers<S>(reporter: &Reporter) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let everything = Targets::new().with_default(Level::INFO);
    let errors = Errors {
        warnings: reporter.warnings,
        links: reporter.links.clone(),
        dispatch: OnceLock::new(),
    };
    // Both see spans, else an event would not know its own.
    let breadcrumbs = exported(&everything).and(asked(|_| true));
    let events = exported(&everything).and(asked(|metadata| {
        metadata.is_span() || *metadata.level() <= Level::WARN
    }));
    errors
        .with_filter(events)
        .and_then(BreadcrumbLayer::new().with_filter(breadcrumbs))
}

struct Errors {
    warnings: bool,
    links: Links,
    dispatch: OnceLock<WeakDispatch>,
}

impl<S> Layer<S> for Errors
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => sentry::Level::Error,
            Level::WARN if self.warnings => sentry::Level::Warning,
            _ => return,
        };
        // The event's own span, which is not the current one where its parent was named.
        let span = context.event_span(event).map(|span| span.id());
        let dispatch = self.dispatch.get().and_then(WeakDispatch::upgrade);
        let own = span.zip(dispatch);
        let own = own.and_then(|(span, dispatch)| get_otel_context(&span, &dispatch));
        let trace = own.unwrap_or_else(Trace::current);
        let mut told = Told::default();
        event.record(&mut told);
        let report = told.report(event.metadata(), level, &trace, &self.links);
        let id = Hub::with_active(|hub| hub.capture_event(report));
        let id = KeyValue::new(semconv::SENTRY_EVENT_ID, id.simple().to_string());
        trace.span().set_attribute(id);
    }
}
