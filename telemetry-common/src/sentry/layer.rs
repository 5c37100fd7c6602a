//! The Sentry layers: one sends errors as events, the other records log events as breadcrumbs.

use std::sync::OnceLock;

use opentelemetry::{Context as Trace, KeyValue, trace::TraceContextExt};
use sentry::Hub;
use sentry_tracing::BreadcrumbLayer;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher::WeakDispatch};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, Targets},
    layer::{Context, Filter},
    registry::LookupSpan,
};

use super::{Reporter, event, event::EventVisitor};
use crate::{
    TelemetryConfig,
    grafana::GrafanaLinks,
    rate_limit::RateLimit,
    semconv,
    subscriber::{always_evaluated, exported_spans, is_exporting},
};

/// Returns both layers. The breadcrumb layer is the outer one, so that an event is not one of its
/// own breadcrumbs.
///
/// Both receive the spans that `TRACES_FILTER` accepts. Otherwise an event would have no span.
pub(crate) fn layers<S>(reporter: &Reporter, config: &TelemetryConfig) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let errors = ErrorLayer {
        warnings: reporter.warnings,
        service: reporter.service.clone(),
        links: reporter.links.clone(),
        dispatch: OnceLock::new(),
    };
    let events = |metadata: &Metadata<'_>| {
        let is_outgoing = metadata.name().starts_with(OUTGOING);
        metadata.is_event() && *metadata.level() <= Level::WARN && !is_outgoing && !is_exporting()
    };
    let breadcrumbs = |metadata: &Metadata<'_>| metadata.is_event() && !is_exporting();
    let traces = &config.traces_filter;
    let limit = RateLimit::new(config.log_rate_limit, "sentry");
    let layer = BreadcrumbLayer::new().with_filter(filter(traces, breadcrumbs));
    let errors = errors.with_filter(filter(traces, events).and(limit));
    errors.and_then(layer)
}

fn filter<S>(traces: &Targets, events: fn(&Metadata<'_>) -> bool) -> impl Filter<S> + use<S> {
    let from_info = Targets::new().with_default(Level::INFO);
    let events = from_info.and(always_evaluated(events));
    traces.clone().and(exported_spans()).or(events)
}

/// The prefix of the names of the log records of outgoing requests. They are breadcrumbs only: the
/// failure is reported where it is handled.
const OUTGOING: &str = "telemetry_common.http.client.";

/// Sends an event for each error, and for each warning if `warnings` is set.
struct ErrorLayer {
    warnings: bool,
    service: String,
    links: Option<GrafanaLinks>,
    dispatch: OnceLock<WeakDispatch>,
}

impl<S> Layer<S> for ErrorLayer
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
        // The span of the event, which is not the current one in `error!(parent: &span, …)`.
        let span = context.event_span(event).map(|span| span.id());
        let dispatch = self.dispatch.get().and_then(WeakDispatch::upgrade);
        let own = span.zip(dispatch);
        let own = own.and_then(|(span, dispatch)| get_otel_context(&span, &dispatch));
        let trace = own.unwrap_or_else(|| {
            if event.is_root() {
                Trace::new()
            } else {
                Trace::current()
            }
        });
        let mut visitor = EventVisitor::default();
        event.record(&mut visitor);
        let mut report = visitor.into_event(event.metadata(), level, &trace, &self.service);
        if let Some(links) = &self.links {
            event::link(&mut report, &trace, links);
        }
        let id = Hub::with_active(|hub| hub.capture_event(report));
        if id.is_nil() {
            return; // the client is closed
        }
        let id = KeyValue::new(semconv::SENTRY_EVENT_ID, id.simple().to_string());
        trace.span().set_attribute(id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::{SpanContext, TracerProvider};
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use sentry::{
        Client, ClientOptions, Envelope, SentryFutureExt, Transport,
        protocol::{Context, Event},
    };
    use tokio::task::JoinSet;
    use tracing::{Instrument, Span, error, info_span, subscriber};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;
    use crate::sentry::with_hooks;

    /// A transport that keeps the events.
    #[derive(Default)]
    struct InMemoryTransport(Mutex<Vec<Event<'static>>>);

    impl Transport for InMemoryTransport {
        fn send_envelope(&self, envelope: Envelope) {
            let event = envelope.event().expect("only events are sent");
            self.0.lock().unwrap().push(event.clone());
        }
    }

    /// Runs `work`. Returns its output and the only event that it sent.
    async fn event_of<T>(sampler: Sampler, work: impl Future<Output = T>) -> (T, Event<'static>) {
        let transport = Arc::new(InMemoryTransport::default());
        let options = ClientOptions::new()
            .dsn("http://public@127.0.0.1:1/42")
            .transport(Arc::clone(&transport));
        let client = Client::from(with_hooks(options));
        let hub = Arc::new(Hub::new(Some(Arc::new(client)), Arc::default()));
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let errors = ErrorLayer {
            warnings: false,
            service: "test".to_owned(),
            links: None,
            dispatch: OnceLock::new(),
        };
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let _guard = subscriber::set_default(registry().with(spans).with(errors));
        let output = work.bind_hub(hub).await;
        let mut events = transport.0.lock().unwrap();
        assert_eq!(events.len(), 1);
        (output, events.remove(0))
    }

    fn span_context(span: &Span) -> SpanContext {
        span.context().span().span_context().clone()
    }

    /// Asserts that the tags and the trace context of the event contain the ids of `span`.
    fn assert_names(event: &Event<'_>, span: &SpanContext) {
        assert_eq!(event.tags["otel.span_id"], span.span_id().to_string());
        assert_eq!(event.tags["otel.trace_id"], span.trace_id().to_string());
        let Some(Context::Trace(trace)) = event.contexts.get("trace") else {
            panic!("no trace context: {event:?}");
        };
        assert_eq!(trace.span_id, span.span_id().to_bytes().into());
        assert_eq!(trace.trace_id, span.trace_id().to_bytes().into());
    }

    #[tokio::test]
    async fn an_event_names_the_innermost_span() {
        let (inner, event) = event_of(Sampler::AlwaysOn, async {
            let _outer = info_span!("outer").entered();
            let inner = info_span!("inner");
            inner.in_scope(|| error!("it failed"));
            span_context(&inner)
        })
        .await;
        assert_names(&event, &inner);
    }

    #[tokio::test]
    async fn an_event_names_its_explicit_parent_and_not_the_current_span() {
        let (parent, event) = event_of(Sampler::AlwaysOn, async {
            let parent = info_span!(parent: None, "parent");
            let _current = info_span!("current").entered();
            error!(parent: &parent, "it failed");
            span_context(&parent)
        })
        .await;
        assert_names(&event, &parent);
    }

    #[tokio::test]
    async fn an_event_of_a_spawned_task_names_the_task_s_span() {
        let (task, event) = event_of(Sampler::AlwaysOn, async {
            let span = info_span!("task");
            let work = async { error!("it failed") }.instrument(span.clone());
            let mut tasks = JoinSet::new();
            tasks.spawn(work.bind_hub(Hub::current()));
            tasks.join_all().await;
            span_context(&span)
        })
        .await;
        assert_names(&event, &task);
    }

    #[tokio::test]
    async fn an_event_of_an_unsampled_trace_names_its_span_and_is_tagged_as_unsampled() {
        let (span, event) = event_of(Sampler::AlwaysOff, async {
            let span = info_span!("unsampled");
            span.in_scope(|| error!("it failed"));
            span_context(&span)
        })
        .await;
        assert_names(&event, &span);
        assert_eq!(event.tags["otel.sampled"], "false");
    }

    #[tokio::test]
    async fn an_event_outside_any_span_names_none() {
        let outside = async { error!("it failed") };
        let root = async {
            let _current = info_span!("current").entered();
            error!(parent: None, "it failed");
        };
        let outside = event_of(Sampler::AlwaysOn, outside).await.1;
        let root = event_of(Sampler::AlwaysOn, root).await.1;
        for event in [outside, root] {
            assert!(!event.contexts.contains_key("trace"), "{event:?}");
            assert!(!event.tags.contains_key("otel.trace_id"), "{event:?}");
        }
    }
}
