//! The create span and the send span, and the metrics of sent messages.

use std::{
    borrow::Cow,
    str,
    sync::{Arc, LazyLock},
    time::Instant,
};

use opentelemetry::{
    Context, KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram},
    trace::{SpanKind, TraceContextExt},
};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::ToBytes,
    producer::{FutureRecord, future_producer::Delivery},
};

use super::{Headers, delivery::DeliveringProducer, describe, integer, messages};
use crate::{
    edge::{self, Attributes},
    scope, semconv,
    series::SeriesOf,
};

/// Starts the create span of a message, and returns the context that contains it. The message must
/// carry this context: [`Headers::carrying`]. The span ends when the context is dropped.
///
/// `key` is the message key, and `id` is `messaging.message.id`. [`Producer::send`] creates this span
/// itself; call this function if the message is stored before it is sent.
///
/// [`Headers::carrying`]: super::Headers::carrying
pub fn create_span(topic: &str, key: Option<&str>, id: Option<&str>) -> Context {
    let parent = Context::current();
    let edge = edge::start(parent, SpanKind::Producer, None, |attributes| {
        describe(attributes, "create", topic.to_owned());
        let key = key.map(str::to_owned);
        attributes.add_some(semconv::MESSAGING_KAFKA_MESSAGE_KEY, key);
        attributes.add_some(semconv::MESSAGING_MESSAGE_ID, id.map(str::to_owned));
        format!("create {topic}").into()
    });
    edge.context
}

/// A Kafka producer that creates a span for each message that it sends.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<DeliveringProducer>,
    client_id: Option<Arc<str>>,
}

impl Producer {
    /// Creates a producer with these settings. It connects in the background, so Kafka need not be
    /// available yet. Returns an error if a setting is invalid.
    pub fn create(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(Self {
            inner: Arc::new(DeliveringProducer::create(config)?),
            client_id: config.get("client.id").map(Arc::from),
        })
    }

    /// Returns the fatal error after which the producer can never send again, if there was one.
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.fatal_error()
    }

    /// Creates a message and sends it. `id` is `messaging.message.id`.
    ///
    /// The message carries the context of its create span, in addition to the headers of `record`.
    /// Otherwise it works as [`send_created`](Self::send_created).
    pub fn send<K, P>(
        &self,
        record: FutureRecord<'_, K, P>,
        id: Option<&str>,
    ) -> impl Future<Output = KafkaResult<Delivery>> + use<K, P>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let key = record
            .key
            .and_then(|key| str::from_utf8(key.to_bytes()).ok());
        let created = create_span(record.topic, key, id);
        let headers = record.headers.clone().unwrap_or_default();
        let headers = Headers::carrying(&created).add_to(headers);
        self.send_created(record.headers(headers), id, &[&created])
    }

    /// Sends a message that already carries the context of its create span, for example one that
    /// was stored. The send span links to `causes`, of which the first is the context that the
    /// message carries. `id` is `messaging.message.id`.
    ///
    /// The message is enqueued immediately, so messages are sent in the order of the calls. The
    /// future resolves when the broker has acknowledged the message or the delivery has failed. A
    /// future that is dropped earlier is recorded as cancelled, although its message may still be
    /// sent.
    pub fn send_created<K, P>(
        &self,
        record: FutureRecord<'_, K, P>,
        id: Option<&str>,
        causes: &[&Context],
    ) -> impl Future<Output = KafkaResult<Delivery>> + use<K, P>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let mut sending = Sending::begin(&record, id, self.client_id.clone(), causes);
        let enqueued = self.inner.send(record);
        async move {
            let outcome = match enqueued {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            sending.finish(outcome.as_ref());
            outcome
        }
    }
}

/// A message that is being sent. The outcome is recorded on drop, so that a cancelled send is
/// recorded too.
struct Sending {
    topic: Arc<str>,
    /// The context that contains the send span, or is empty.
    span: Context,
    started: Instant,
    outcome: Outcome,
}

/// How a message was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    /// To this partition.
    Sent(i32),
    Failed(Cow<'static, str>),
    Cancelled,
}

impl Sending {
    fn begin<K, P>(
        record: &FutureRecord<'_, K, P>,
        id: Option<&str>,
        client_id: Option<Arc<str>>,
        causes: &[&Context],
    ) -> Self
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let topic: Arc<str> = record.topic.into();
        let links = causes
            .iter()
            .map(|cause| cause.span().span_context().clone());
        let edge = edge::start(Context::current(), SpanKind::Client, links, |attributes| {
            let key = record
                .key
                .and_then(|key| str::from_utf8(key.to_bytes()).ok());
            let size = record.payload.map_or(0, |payload| payload.to_bytes().len());
            let tombstone = record.payload.is_none().then_some(true);
            describe(attributes, "send", Arc::clone(&topic));
            attributes.add_some(semconv::MESSAGING_CLIENT_ID, client_id);
            attributes.add_some(semconv::MESSAGING_KAFKA_MESSAGE_KEY, key.map(str::to_owned));
            attributes.add_some(semconv::MESSAGING_KAFKA_MESSAGE_TOMBSTONE, tombstone);
            attributes.add(semconv::MESSAGING_MESSAGE_BODY_SIZE, integer(size));
            attributes.add_some(semconv::MESSAGING_MESSAGE_ID, id.map(str::to_owned));
            format!("send {topic}").into()
        });
        Self {
            topic,
            span: edge.span,
            started: Instant::now(),
            outcome: Outcome::Cancelled,
        }
    }

    /// Records the partition and the offset of the message, or the error.
    fn finish(&mut self, outcome: Result<&Delivery, &KafkaError>) {
        let span = self.span.span();
        self.outcome = match outcome {
            Ok(delivery) => {
                if span.is_recording() {
                    let mut attributes = Attributes(Vec::with_capacity(2));
                    attributes.add(semconv::MESSAGING_KAFKA_OFFSET, delivery.offset);
                    let partition = delivery.partition.to_string();
                    attributes.add(semconv::MESSAGING_DESTINATION_PARTITION_ID, partition);
                    span.set_attributes(attributes.0);
                }
                Outcome::Sent(delivery.partition)
            }
            Err(error) => {
                let error_type = error_type(error);
                edge::fail(&span, error_type.clone(), error.to_string());
                Outcome::Failed(error_type)
            }
        };
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let span = self.span.span();
        if self.outcome == Outcome::Cancelled {
            span.set_attribute(KeyValue::new(semconv::CANCELLED, true));
        }
        span.end();
        let labels = (Arc::clone(&self.topic), self.outcome.clone());
        let series = SERIES.get(labels, |(topic, outcome)| Series::bind(topic, outcome));
        series.duration.record(self.started.elapsed().as_secs_f64());
        series.sent.add(1);
    }
}

/// Returns `error.type`: the error code of librdkafka, a low-cardinality value.
fn error_type(error: &KafkaError) -> Cow<'static, str> {
    error
        .rdkafka_error_code()
        .map_or("_OTHER".into(), |code| format!("{code:?}").into())
}

/// The series of the messages of one topic that were sent with one outcome.
struct Series {
    duration: BoundHistogram<f64>,
    sent: BoundCounter<u64>,
}

impl Series {
    fn bind(topic: &Arc<str>, outcome: &Outcome) -> Self {
        let mut attributes = Attributes(Vec::with_capacity(5));
        describe(&mut attributes, "send", Arc::clone(topic));
        match outcome {
            Outcome::Sent(partition) => attributes.add(
                semconv::MESSAGING_DESTINATION_PARTITION_ID,
                partition.to_string(),
            ),
            Outcome::Failed(error_type) => attributes.add(semconv::ERROR_TYPE, error_type.clone()),
            Outcome::Cancelled => {}
        }
        let Metrics { duration, sent } = &*METRICS;
        Self {
            duration: duration.bind(&attributes.0),
            sent: sent.bind(&attributes.0),
        }
    }
}

static SERIES: SeriesOf<(Arc<str>, Outcome), Series> = SeriesOf::new();

struct Metrics {
    duration: Histogram<f64>,
    sent: Counter<u64>,
}

/// Created at the first message, because instruments must be created after telemetry is installed.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    duration: scope::seconds(
        semconv::MESSAGING_CLIENT_OPERATION_DURATION,
        "Duration of messaging operations by a producer or consumer client",
    ),
    sent: messages(
        semconv::MESSAGING_CLIENT_SENT_MESSAGES,
        "Number of messages that a producer attempted to send",
    ),
});
