//! Tests of trace context and baggage in Kafka headers, valid and invalid.

use std::{future::pending, sync::Mutex, time::Duration};

use futures::FutureExt;
use opentelemetry::{
    Context, KeyValue, Value,
    baggage::BaggageExt,
    trace::{SpanContext, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::SpanData;
use rdkafka::{
    ClientConfig, Message, Offset, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
    producer::FutureRecord,
};
use telemetry_common::{
    kafka::{self, ConsumerTelemetry, Headers, Producer, TraceRelation},
    set_attribute,
    testing::{self, attribute},
};
use testbed::kafka::Kafka;
use tokio::time::timeout;

const OLD: &str = "00-11111111111111111111111111111111-2222222222222222-01";
const NEW: &str = "00-33333333333333333333333333333333-4444444444444444-01";

#[tokio::test]
async fn a_message_carries_the_context_of_its_create_span() {
    let (headers, spans) = testing::spans_of(async {
        let created = kafka::create_span("t", Some("7"), Some("id"));
        Headers::carrying(&created).with("content-type", "application/json")
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
        "an empty tracestate is not sent"
    );
}

#[tokio::test]
async fn the_last_of_repeated_headers_is_used() {
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
                .process(&message(headers), 1, async { current_trace() }, |_| None)
                .await
        })
        .await;
        let spans = testing::Spans::of(id);
        assert!(spans.named("process t").links.is_empty());
    }
}

#[tokio::test]
async fn a_process_span_links_to_the_create_span_and_can_be_its_child() {
    for relation in [TraceRelation::Link, TraceRelation::Parent] {
        let (id, _) = testing::spans_of(async {
            let message = message(&[("traceparent", Some(NEW))]);
            consuming(relation)
                .process(&message, 1, async { current_trace() }, |_| None)
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
        let is_child = process.parent_span_id.to_string() == "4444444444444444";
        assert_eq!(is_child, relation == TraceRelation::Parent);
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_is_cancelled() {
    let (id, _) = testing::spans_of(async {
        let message = message(&[]);
        let mut id = None;
        let work = async {
            id = Some(current_trace());
            pending::<()>().await;
        };
        let consuming = consuming(TraceRelation::Link);
        let mut attempt = Box::pin(consuming.process(&message, 1, work, |()| None));
        assert!(attempt.as_mut().now_or_never().is_none());
        drop(attempt);
        id.unwrap()
    })
    .await;
    let spans = testing::Spans::of(id);
    let cancelled = attribute(spans.named("process t"), "telemetry_common.cancelled");
    assert_eq!(cancelled, Some(&Value::Bool(true)));
}

#[tokio::test]
async fn processing_propagates_the_baggage_of_the_message() {
    testing::install();
    let message = message(&[
        ("traceparent", Some(NEW)),
        ("baggage", Some("synthetic=true")),
    ]);
    let headers = consuming(TraceRelation::Link)
        .process(
            &message,
            1,
            async { Headers::carrying(&Context::current()) },
            |_| None,
        )
        .await;
    let baggage = headers.context().baggage().get("synthetic").cloned();
    assert_eq!(baggage.unwrap().as_str(), "true");
    assert_ne!(
        headers
            .context()
            .span()
            .span_context()
            .trace_id()
            .to_string(),
        NEW[3..35],
        "the process span starts a new trace"
    );
}

#[tokio::test]
async fn a_sent_message_is_created_and_keeps_its_own_headers() {
    let kafka = Kafka::start(&["sent"]).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap_servers());
    let producer = Producer::create(&config).unwrap();
    let (delivery, spans) = testing::spans_of(async {
        let own = Header {
            key: "content-type",
            value: Some("text/plain"),
        };
        let headers = OwnedHeaders::new().insert(own);
        let record = FutureRecord::to("sent")
            .key("7")
            .payload("x")
            .headers(headers);
        producer.send(record, Some("id")).await
    })
    .await;
    let delivery = delivery.unwrap();
    assert_eq!((delivery.partition, delivery.offset), (0, 0));
    let (create, send) = (spans.named("create sent"), spans.named("send sent"));
    assert_eq!(send.links[0].span_context, create.span_context);
    let value = |key| attribute(send, key).cloned();
    assert_eq!(
        value("messaging.destination.partition.id"),
        Some("0".into())
    );
    assert_eq!(value("messaging.kafka.offset"), Some(Value::I64(0)));
    let consumer: BaseConsumer = config.set("group.id", "g").create().unwrap();
    let mut partition = TopicPartitionList::new();
    let first = partition.add_partition_offset("sent", 0, Offset::Beginning);
    first.and_then(|()| consumer.assign(&partition)).unwrap();
    let received = tokio::task::spawn_blocking(move || {
        let message = consumer.poll(Duration::from_mins(1)).unwrap().unwrap();
        message.detach()
    });
    let received = received.await.unwrap();
    let carried = kafka::extract(&received);
    let created = create.span_context.span_id();
    assert_eq!(carried.span().span_context().span_id(), created);
    let headers = received.headers().unwrap();
    let mut keys: Vec<_> = headers.iter().map(|header| header.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["content-type", "traceparent"]);
}

#[tokio::test]
async fn what_a_dropped_producer_has_not_delivered_fails() {
    testing::install();
    let mut config = ClientConfig::new();
    // Nobody listens on this port.
    config.set("bootstrap.servers", "127.0.0.1:1");
    let producer = Producer::create(&config).unwrap();
    let record = FutureRecord::to("nowhere").key("7").payload("x");
    let delivery = producer.send(record, None);
    drop(producer);
    let delivery = timeout(Duration::from_mins(1), delivery).await;
    let error = delivery.expect("the thread has ended").unwrap_err();
    let code = error.rdkafka_error_code().unwrap();
    let failed = KeyValue::new("error.type", format!("{code:?}"));
    let sent = testing::sum("messaging.client.sent.messages", &failed);
    assert!(sent > 0.0, "{code:?} is counted");
}

// proves: N34
#[tokio::test]
async fn a_message_of_a_batch_has_the_span_of_a_message_that_is_processed_alone() {
    let current = || Context::current().span().span_context().clone();
    for relation in [TraceRelation::Link, TraceRelation::Parent] {
        let consuming = consuming(relation);
        let messages = [
            message(&[("traceparent", Some(NEW))]),
            message(&[("traceparent", Some(OLD))]),
        ];
        let mut receive = None;
        let work = async {
            receive = Some(current());
            Ok::<_, ()>(())
        };
        let processed = Mutex::new(Vec::new());
        let record = |index: usize, (): &()| {
            set_attribute("index", i64::try_from(index).unwrap());
            processed.lock().unwrap().push(current());
        };
        let batch = consuming.process_batch(&messages, work, record);
        batch.await.unwrap();
        let alone = consuming.process(&messages[0], 1, async { current() }, |_| None);
        let (alone, receive) = (alone.await, receive.unwrap());

        let receive = span_of(&receive);
        assert_eq!(receive.name, "receive t");
        let count = attribute(&receive, "messaging.batch.message_count");
        assert_eq!(count, Some(&Value::I64(2)));
        let [link] = &receive.links[..] else {
            panic!("one link: {:?}", receive.links)
        };
        // The randomness of its trace id is the greatest one.
        assert_eq!(link.span_context.span_id().to_string(), "4444444444444444");
        let alone = span_of(&alone);
        let processed = processed.into_inner().unwrap();
        for (index, created) in [(0, "4444444444444444"), (1, "2222222222222222")] {
            let process = span_of(&processed[index]);
            assert_eq!(process.span_kind, alone.span_kind);
            assert_eq!(process.name, alone.name);
            let index = KeyValue::new("index", i64::try_from(index).unwrap());
            let expected = [&*alone.attributes, &[index]].concat();
            assert_eq!(sorted(&process.attributes), sorted(&expected));
            let [create, to_batch] = &process.links[..] else {
                panic!("two links: {:?}", process.links)
            };
            assert_eq!(create.span_context.span_id().to_string(), created);
            assert_eq!(to_batch.span_context, receive.span_context);
            let is_child = process.parent_span_id.to_string() == created;
            assert_eq!(is_child, relation == TraceRelation::Parent);
        }
    }
}

// proves: N30
#[tokio::test]
async fn a_message_is_sampled_as_the_span_that_created_it() {
    testing::install();
    let consuming = consuming(TraceRelation::Link);
    let current = || Context::current().span().span_context().clone();
    let dropped = format!("00-{}-5555555555555555-00", "f".repeat(32));
    let messages = [&dropped, OLD, NEW].map(|created| {
        message(&[
            ("traceparent", Some(created)),
            ("tracestate", Some("ot=th:1")),
        ])
    });
    let alone = consuming.process(&messages[0], 1, async { current() }, |_| None);
    assert!(!alone.await.is_sampled());
    let alone = consuming.process(&messages[1], 1, async { current() }, |_| None);
    let state = alone.await.trace_state().header();
    assert_eq!(state, "ot=th:1;rv:11111111111111");

    // A batch is sampled if one of its messages is, with the greatest of their randomness. That is more probable than
    // the threshold of one message says.
    let mut receive = None;
    let work = async {
        receive = Some(current());
        Ok::<_, ()>(())
    };
    let processed = Mutex::new(Vec::new());
    let record = |_, (): &()| processed.lock().unwrap().push(current());
    consuming
        .process_batch(&messages, work, record)
        .await
        .unwrap();
    let receive = receive.unwrap();
    assert_eq!(receive.trace_state().header(), "ot=rv:33333333333333");
    let processed = processed.into_inner().unwrap();
    let sampled: Vec<_> = processed.iter().map(SpanContext::is_sampled).collect();
    assert_eq!(sampled, [false, true, true]);
    let batch =
        consuming.process_batch(&messages[..1], async { Ok::<_, ()>(current()) }, |_, _| ());
    assert!(!batch.await.unwrap().is_sampled());
}

#[tokio::test]
async fn a_batch_counts_and_measures_each_message_unless_it_fails_or_is_dropped() {
    testing::install();
    let group = KeyValue::new("messaging.consumer.group.name", "batch");
    let consuming = ConsumerTelemetry::new("batch", "c");
    let messages = [message(&[]), message(&[]), message(&[])];
    let consumed = || testing::sum("messaging.client.consumed.messages", &group);

    let failed = async { Err::<(), _>("failed") };
    let failed = consuming.process_batch(&messages, failed, |_, ()| unreachable!());
    assert_eq!(failed.await, Err("failed"));
    let mut trace = None;
    let dropped = async {
        trace = Some(current_trace());
        pending::<Result<(), ()>>().await
    };
    let dropped = consuming.process_batch(&messages, dropped, |_, ()| unreachable!());
    assert!(Box::pin(dropped).as_mut().now_or_never().is_none());
    let spans = testing::Spans::of(trace.unwrap());
    let cancelled = attribute(spans.named("receive t"), "telemetry_common.cancelled");
    assert_eq!(cancelled, Some(&Value::Bool(true)));
    assert!(consumed() < 1.0);

    let done = consuming.process_batch(&messages, async { Ok::<_, ()>(()) }, |_, ()| ());
    assert_eq!(done.await, Ok(()));
    assert!((consumed() - 3.0).abs() < f64::EPSILON);
    assert!(testing::sum("messaging.process.duration", &group) > 0.0);
}

#[tokio::test]
async fn an_abandoned_attempt_is_measured() {
    testing::install();
    let group = KeyValue::new("messaging.consumer.group.name", "abandoned");
    let consuming = ConsumerTelemetry::new("abandoned", "c");
    let message = message(&[]);
    let work = consuming.process(&message, 1, std::future::pending::<()>(), |()| None);
    drop(Box::pin(work));
    assert!(testing::sum("messaging.process.duration", &group) > 0.0);
}

fn consuming(relation: TraceRelation) -> ConsumerTelemetry {
    ConsumerTelemetry::new("g", "c").relation(relation)
}

fn current_trace() -> TraceId {
    Context::current().span().span_context().trace_id()
}

/// Returns an ended span.
fn span_of(context: &SpanContext) -> SpanData {
    let spans = testing::Spans::of(context.trace_id());
    let mut spans = spans.iter();
    spans
        .find(|span| span.span_context.span_id() == context.span_id())
        .unwrap()
        .clone()
}

fn sorted(attributes: &[KeyValue]) -> Vec<KeyValue> {
    let mut sorted = attributes.to_vec();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    sorted
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
