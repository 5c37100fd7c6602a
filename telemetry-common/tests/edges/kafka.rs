//! Context in headers, whatever others put there.

use opentelemetry::{
    Context,
    baggage::BaggageExt,
    trace::{SpanKind, TraceContextExt},
};
use rdkafka::{
    Timestamp,
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
};
use telemetry_common::{
    kafka::{self, Consuming, Headers, TraceRelation},
    testing,
};
use tracing::Span;

const OLD: &str = "00-11111111111111111111111111111111-2222222222222222-01";
const NEW: &str = "00-33333333333333333333333333333333-4444444444444444-01";

#[tokio::test]
async fn a_message_carries_the_context_of_its_create_span() {
    let (headers, spans) = testing::spans_of(async {
        let span = kafka::create_span("t", "7", "id");
        Headers::of(&span).with("content-type", "application/json")
    })
    .await;
    let create = spans.named("create t");
    assert_eq!(create.span_kind, SpanKind::Producer);
    assert_eq!(
        headers.context().span().span_context().span_id(),
        create.span_context.span_id()
    );
    let wire = OwnedHeaders::from(&headers);
    let keys: Vec<_> = wire.iter().map(|header| header.key).collect();
    assert_eq!(
        keys,
        ["content-type", "traceparent"],
        "an empty tracestate is none"
    );
}

#[tokio::test]
async fn of_repeated_headers_the_last_counts() {
    testing::install();
    let message = message(&[("traceparent", Some(OLD)), ("TraceParent", Some(NEW))]);
    let context = kafka::extract(&message);
    assert_eq!(
        context.span().span_context().span_id().to_string(),
        "4444444444444444"
    );
}

#[tokio::test]
async fn a_message_without_context_is_processed_without_link() {
    for headers in [
        &[][..],
        &[("traceparent", None)],
        &[("traceparent", Some("junk"))],
    ] {
        let (id, _) = testing::spans_of(async {
            consuming(TraceRelation::Parent)
                .process(&message(headers), 1, async { trace_of(&Span::current()) })
                .await
        })
        .await;
        let spans = testing::Spans::of(id);
        assert!(spans.named("process t").links.is_empty());
    }
}

#[tokio::test]
async fn processing_links_to_the_create_and_can_continue_it() {
    for relation in [TraceRelation::Link, TraceRelation::Parent] {
        let (id, _) = testing::spans_of(async {
            let message = message(&[("traceparent", Some(NEW))]);
            consuming(relation)
                .process(&message, 1, async { trace_of(&Span::current()) })
                .await
        })
        .await;
        let spans = testing::Spans::of(id);
        let process = spans
            .iter()
            .find(|span| span.span_context.trace_id() == id)
            .unwrap();
        assert_eq!(process.span_kind, SpanKind::Consumer);
        assert_eq!(
            process.links[0].span_context.span_id().to_string(),
            "4444444444444444"
        );
        let continues = process.parent_span_id.to_string() == "4444444444444444";
        assert_eq!(continues, relation == TraceRelation::Parent);
    }
}

#[tokio::test]
async fn the_work_carries_the_message_s_baggage_on() {
    testing::install();
    let message = message(&[
        ("traceparent", Some(NEW)),
        ("baggage", Some("synthetic=true")),
    ]);
    let carried = consuming(TraceRelation::Link)
        .process(&message, 1, async {
            Headers::carrying(&Context::current())
        })
        .await;
    let baggage = carried.context().baggage().get("synthetic").cloned();
    assert_eq!(baggage.unwrap().as_str(), "true");
    assert_ne!(
        carried
            .context()
            .span()
            .span_context()
            .trace_id()
            .to_string(),
        NEW[3..35],
        "a trace of its own all the same"
    );
}

fn consuming(relation: TraceRelation) -> Consuming {
    Consuming {
        group: "g",
        client_id: "c",
        relation,
    }
}

fn trace_of(span: &Span) -> opentelemetry::TraceId {
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    span.context().span().span_context().trace_id()
}

fn message(headers: &[(&str, Option<&str>)]) -> OwnedMessage {
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: *value })
        });
    let (topic, time) = ("t".to_owned(), Timestamp::NotAvailable);
    OwnedMessage::new(Some(b"{}".to_vec()), None, topic, time, 0, 0, Some(headers))
}
