//! Tests of spawned work: what keeps its context.

use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    context::FutureExt,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use telemetry_common::{RequestId, task, testing};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, info, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Returns the id of the current span, the request id and the number of baggage entries.
fn current() -> (SpanId, String, usize) {
    info_span!("work").in_scope(|| info!("working"));
    let context = Context::current();
    let id = RequestId::current().map(|id| id.to_string());
    let span = context.span().span_context().span_id();
    (span, id.unwrap_or_default(), context.baggage().len())
}

#[tokio::test]
async fn spawned_work_keeps_span_request_id_and_baggage() {
    testing::install();
    let request = async {
        let here = current();
        assert_eq!((&*here.1, here.2), ("load-42", 1));
        let mut set = task::JoinSet::new();
        set.spawn(async { current() });
        set.spawn_blocking(current);
        assert_eq!(set.len(), 2);
        while let Some(there) = set.join_next().await {
            assert_eq!(there.unwrap(), here);
        }
        assert_eq!(task::spawn(async { current() }).await.unwrap(), here);
        assert_eq!(task::spawn_blocking(current).await.unwrap(), here);
        let thread = std::thread::spawn(task::with_context(current));
        assert_eq!(thread.join().unwrap(), here);

        let (jobs, mut queue) = mpsc::channel(1);
        jobs.send(task::in_context(async { current() }))
            .await
            .unwrap();
        let worker = tokio::task::JoinSet::from_iter([async move {
            let job = queue.recv().await.unwrap();
            (current().0, job.await)
        }]);
        let (outside, inside) = worker.join_all().await.remove(0);
        assert_ne!(outside, here.0, "the worker itself has no context");
        assert_eq!(inside, here);
        here.0
    };
    let request = async {
        let baggage = Context::current().with_baggage([KeyValue::new("tenant", "7")]);
        let id = RequestId::parse("load-42").unwrap();
        let baggage = baggage.with_value(id);
        request.with_context(baggage).await
    };
    let (span, spans) = testing::spans_of(request).await;
    let work = spans.all_named("work");
    assert_eq!(work.len(), 7, "all in one trace: {:?}", spans.names());
    assert!(work.iter().all(|work| work.parent_span_id == span));
    assert_eq!(testing::logs_of(spans.trace_id()).len(), 7);
}

// proves: N30
#[tokio::test]
async fn detached_work_is_sampled_as_the_span_that_started_it() {
    testing::install();
    for (flags, expected) in [(0, false), (1, true)] {
        let trace = TraceId::from(0x0707_0707_0707_0707_0707_0707_0707_0707);
        let flags = TraceFlags::new(flags);
        let caller = SpanContext::new(trace, SpanId::from(7), flags, true, TraceState::NONE);
        let _caller = Context::new().with_remote_span_context(caller).attach();
        let span = task::detached(info_span!(parent: None, "rebuild"));
        let sampled = span.context().span().span_context().is_sampled();
        assert_eq!(sampled, expected);
    }
}

#[tokio::test]
async fn detached_work_has_a_linked_trace_and_the_request_id() {
    let (release, released) = oneshot::channel::<()>();
    let (done, seen) = oneshot::channel();
    let request = async {
        let caller = async {
            let span = task::detached(info_span!(parent: None, "rebuild"));
            let work = async {
                released.await.unwrap();
                done.send(current()).unwrap();
            };
            span.in_scope(|| task::spawn(work));
        };
        let id = RequestId::parse("load-43").unwrap();
        id.scope(caller).instrument(info_span!("caller")).await;
    };
    let ((), spans) = testing::spans_of(request).await;
    let ended = spans.named("caller").end_time;
    release.send(()).unwrap();
    let there = seen.await.unwrap();
    let spans = spans.wait_for("rebuild").await;
    assert_eq!(spans.named("caller").end_time, ended);
    let (caller, rebuild) = (spans.named("caller"), spans.named("rebuild"));
    assert_ne!(rebuild.span_context.trace_id(), spans.trace_id());
    assert_eq!(rebuild.parent_span_id, SpanId::INVALID);
    let link = rebuild.links.iter().next().expect("a link to the caller");
    assert_eq!(link.span_context.span_id(), caller.span_context.span_id());
    assert_eq!(there.0, rebuild.span_context.span_id());
    assert_eq!(there.1, "load-43");
}
