//! Trace context in Kafka headers, and the spans of a message's life: create, send, process.
//!
//! A message carries the context of its *create* span from the moment it is written down; *send*
//! and *process* link to it and are traces of their own work, so that durations stay honest when
//! a message waits. [`process_span`] is the one place where that can be changed.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>,
//! <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    str,
    sync::LazyLock,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use opentelemetry::{
    Context, KeyValue, global,
    metrics::Histogram,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use rdkafka::{
    Message,
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders, ToBytes},
    producer::{FutureProducer, FutureRecord, future_producer::Delivery},
};
use serde::{Deserialize, Serialize};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{failure, semconv};

/// A message's headers as text, so that they can be stored before they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The headers that carry the context of `span`.
    pub fn of(span: &Span) -> Self {
        let mut headers = Self::default();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&span.context(), &mut headers);
        });
        headers
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The context they carry; an empty one where they carry none.
    pub fn context(&self) -> Context {
        global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), self)
        })
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        // The propagator writes an empty `tracestate` where there is none.
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl From<&Headers> for OwnedHeaders {
    fn from(headers: &Headers) -> Self {
        headers.0.iter().fold(Self::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
    }
}

/// The context a received message carries; an empty one where it carries none.
pub fn extract(message: &impl Message) -> Context {
    global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Received(message.headers()))
    })
}

/// Headers from the wire: bytes, perhaps null, perhaps repeated; the last one counts.
struct Received<'m, H>(Option<&'m H>);

impl<H: rdkafka::message::Headers> Extractor for Received<'_, H> {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self
            .0?
            .iter()
            .filter(|header| header.key.eq_ignore_ascii_case(key))
            .last()?;
        str::from_utf8(found.value?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .map(|headers| headers.iter().map(|header| header.key).collect())
            .unwrap_or_default()
    }
}

/// The span of writing a message down; its context is what the message carries.
pub fn create_span(topic: &str, key: &str, id: &str) -> Span {
    info_span!(
        "kafka.create",
        otel.name = format!("create {topic}"),
        otel.kind = "producer",
        { semconv::MESSAGING_SYSTEM } = "kafka",
        { semconv::MESSAGING_OPERATION_NAME } = "create",
        { semconv::MESSAGING_OPERATION_TYPE } = "create",
        { semconv::MESSAGING_DESTINATION_NAME } = topic,
        { semconv::MESSAGING_KAFKA_MESSAGE_KEY } = key,
        { semconv::MESSAGING_MESSAGE_ID } = id,
    )
}

/// Sends a message in a span of its own that links to `created`, the context it carries.
///
/// The message is handed over at once, so that calls in order are sends in order; the future
/// resolves when the broker has acknowledged it, or will not.
pub fn send<K, P>(
    producer: &FutureProducer,
    record: FutureRecord<'_, K, P>,
    created: &Context,
) -> impl Future<Output = KafkaResult<Delivery>> + use<K, P>
where
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
{
    let started = Instant::now();
    let topic = record.topic.to_owned();
    let key = record
        .key
        .and_then(|key| str::from_utf8(key.to_bytes()).ok());
    let size = record.payload.map_or(0, |payload| payload.to_bytes().len());
    let span = send_span(&topic, key, size, created);
    let handed_over = producer.send_result(record).map_err(|(error, _)| error);
    async move {
        let outcome = match handed_over {
            Ok(delivery) => match delivery.await {
                Ok(delivered) => delivered.map_err(|(error, _)| error),
                Err(_) => Err(KafkaError::Canceled), // the producer is gone
            },
            Err(error) => Err(error),
        };
        sent(&span, &topic, started.elapsed(), outcome.as_ref());
        outcome
    }
}

fn send_span(topic: &str, key: Option<&str>, size: usize, created: &Context) -> Span {
    let span = info_span!(
        "kafka.send",
        otel.name = format!("send {topic}"),
        otel.kind = "client",
        { semconv::MESSAGING_SYSTEM } = "kafka",
        { semconv::MESSAGING_OPERATION_NAME } = "send",
        { semconv::MESSAGING_OPERATION_TYPE } = "send",
        { semconv::MESSAGING_DESTINATION_NAME } = topic,
        { semconv::MESSAGING_KAFKA_MESSAGE_KEY } = key,
        { semconv::MESSAGING_MESSAGE_BODY_SIZE } = integer(size),
        { semconv::MESSAGING_DESTINATION_PARTITION_ID } = Empty,
        { semconv::MESSAGING_KAFKA_OFFSET } = Empty,
    );
    span.add_link(created.span().span_context().clone());
    span
}

/// Where the message went, or why it did not.
fn sent(span: &Span, topic: &str, took: Duration, outcome: Result<&Delivery, &KafkaError>) {
    let mut labels = operation("send", topic);
    match outcome {
        Ok(delivery) => {
            let partition = delivery.partition.to_string();
            span.record(semconv::MESSAGING_DESTINATION_PARTITION_ID, &partition);
            span.record(semconv::MESSAGING_KAFKA_OFFSET, delivery.offset);
            labels.push(KeyValue::new(
                semconv::MESSAGING_DESTINATION_PARTITION_ID,
                partition,
            ));
        }
        Err(error) => {
            let error_type = error_type(error);
            failure::mark(span, error_type.clone(), error.to_string());
            labels.push(KeyValue::new(semconv::ERROR_TYPE, error_type));
        }
    }
    METRICS.operation.record(took.as_secs_f64(), &labels);
}

/// How the worker's trace relates to the trace that created the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceRelation {
    /// A trace of its own that links to it.
    Link,
    /// A continuation of it, with the link all the same.
    Parent,
}

/// The span of processing one received message.
pub fn process_span(message: &impl Message, group: &str, relation: TraceRelation) -> Span {
    let topic = message.topic();
    let key = message.key().and_then(|key| str::from_utf8(key).ok());
    let span = info_span!(
        parent: None,
        "kafka.process",
        otel.name = format!("process {topic}"),
        otel.kind = "consumer",
        { semconv::MESSAGING_SYSTEM } = "kafka",
        { semconv::MESSAGING_OPERATION_NAME } = "process",
        { semconv::MESSAGING_OPERATION_TYPE } = "process",
        { semconv::MESSAGING_DESTINATION_NAME } = topic,
        { semconv::MESSAGING_DESTINATION_PARTITION_ID } = message.partition().to_string(),
        { semconv::MESSAGING_KAFKA_OFFSET } = message.offset(),
        { semconv::MESSAGING_KAFKA_MESSAGE_KEY } = key,
        { semconv::MESSAGING_CONSUMER_GROUP_NAME } = group,
        { semconv::MESSAGING_MESSAGE_BODY_SIZE } = integer(message.payload().map_or(0, <[u8]>::len)),
        { semconv::MESSAGING_MESSAGE_ID } = Empty,
    );
    let created = extract(message);
    let link = created.span().span_context().clone();
    if relation == TraceRelation::Parent && link.is_valid() {
        // Before the span is first entered, else a new trace has begun; where spans are off there
        // is nothing to set.
        let _ = span.set_parent(created);
    }
    span.add_link(link);
    span
}

/// Measures one processed message; `error_type`, a word from a fixed set, where it failed.
pub fn processed(
    message: &impl Message,
    group: &str,
    took: Duration,
    error_type: Option<&'static str>,
) {
    let mut labels = operation("process", message.topic());
    labels.push(KeyValue::new(
        semconv::MESSAGING_CONSUMER_GROUP_NAME,
        group.to_owned(),
    ));
    let partition = message.partition().to_string();
    labels.push(KeyValue::new(
        semconv::MESSAGING_DESTINATION_PARTITION_ID,
        partition,
    ));
    labels.extend(error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name)));
    METRICS.process.record(took.as_secs_f64(), &labels);
}

fn operation(name: &'static str, topic: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new(semconv::MESSAGING_SYSTEM, "kafka"),
        KeyValue::new(semconv::MESSAGING_OPERATION_NAME, name),
        KeyValue::new(semconv::MESSAGING_OPERATION_TYPE, name),
        KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, topic.to_owned()),
    ]
}

/// librdkafka's name of the error: a fixed set.
fn error_type(error: &KafkaError) -> Cow<'static, str> {
    error
        .rdkafka_error_code()
        .map_or("_OTHER".into(), |code| format!("{code:?}").into())
}

fn integer(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

struct Metrics {
    operation: Histogram<f64>,
    process: Histogram<f64>,
}

/// First touched by the first message, after `init`.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = global::meter("telemetry-common");
    let histogram = |name, description| {
        meter
            .f64_histogram(name)
            .with_unit("s")
            .with_description(description)
            .with_boundaries(semconv::DURATION_BOUNDARIES.to_vec())
            .build()
    };
    Metrics {
        operation: histogram(
            semconv::MESSAGING_CLIENT_OPERATION_DURATION,
            "Duration of messaging operations by a producer or consumer client",
        ),
        process: histogram(
            semconv::MESSAGING_PROCESS_DURATION,
            "Duration of processing one message",
        ),
    }
});
