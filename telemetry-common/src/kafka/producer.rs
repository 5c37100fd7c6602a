//! The create span and the send span, and the metrics of sent messages.

use std::{
    borrow::Cow,
    str,
    sync::{Arc, LazyLock},
    time::Instant,
};

use opentelemetry::{
    Context, KeyValue,
    metrics::{Counter, Histogram},
    trace::TraceContextExt,
};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::ToBytes,
    producer::{FutureRecord, future_producer::Delivery},
};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Headers, attributes, delivery::DeliveringProducer, integer, messages};
use crate::{failure, scope, semconv};

/// Returns the create span of a message. The message must carry the context of this span:
/// [`Headers::of`].
///
/// `key` is the message key, and `id` is `messaging.message.id`. [`Producer::send`] creates this span
/// itself; call this function if the message is stored before it is sent.
///
/// [`Headers::of`]: super::Headers::of
pub fn create_span(topic: &str, key: Option<&str>, id: Option<&str>) -> Span {
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

/// A Kafka producer that creates a span for each message that it sends.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<DeliveringProducer>,
    client_id: Option<String>,
}

impl Producer {
    /// Creates a producer with these settings. It connects in the background, so Kafka need not be
    /// available yet. Returns an error if a setting is invalid.
    pub fn create(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(Self {
            inner: Arc::new(DeliveringProducer::create(config)?),
            client_id: config.get("client.id").map(str::to_owned),
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
        let created = create_span(record.topic, key, id).context();
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
        let mut sending = Sending::begin(&record, id, self.client_id.as_deref(), causes);
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

/// A message that is being sent. The metrics are recorded on drop, so that a cancelled send is
/// recorded too.
struct Sending {
    span: Span,
    started: Instant,
    attributes: Vec<KeyValue>,
    ended: bool,
}

impl Sending {
    fn begin<K, P>(
        record: &FutureRecord<'_, K, P>,
        id: Option<&str>,
        client_id: Option<&str>,
        causes: &[&Context],
    ) -> Self
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let topic = record.topic;
        let key = record.key.map(ToBytes::to_bytes);
        let size = record.payload.map_or(0, |payload| payload.to_bytes().len());
        let span = info_span!(
            "kafka.send",
            otel.name = format!("send {topic}"),
            otel.kind = "client",
            { semconv::MESSAGING_SYSTEM } = "kafka",
            { semconv::MESSAGING_OPERATION_NAME } = "send",
            { semconv::MESSAGING_OPERATION_TYPE } = "send",
            { semconv::MESSAGING_DESTINATION_NAME } = topic,
            { semconv::MESSAGING_CLIENT_ID } = client_id,
            { semconv::MESSAGING_KAFKA_MESSAGE_KEY } = key.and_then(|key| str::from_utf8(key).ok()),
            { semconv::MESSAGING_KAFKA_MESSAGE_TOMBSTONE } =
                record.payload.is_none().then_some(true),
            { semconv::MESSAGING_MESSAGE_BODY_SIZE } = integer(size),
            { semconv::MESSAGING_MESSAGE_ID } = id,
            { semconv::MESSAGING_DESTINATION_PARTITION_ID } = Empty,
            { semconv::MESSAGING_KAFKA_OFFSET } = Empty,
        );
        for cause in causes {
            span.add_link(cause.span().span_context().clone());
        }
        Self {
            span,
            started: Instant::now(),
            attributes: attributes("send", topic),
            ended: false,
        }
    }

    /// Records the partition and the offset of the message, or the error.
    fn finish(&mut self, outcome: Result<&Delivery, &KafkaError>) {
        self.ended = true;
        match outcome {
            Ok(delivery) => {
                let partition = delivery.partition.to_string();
                let span = &self.span;
                span.record(semconv::MESSAGING_DESTINATION_PARTITION_ID, &partition);
                span.record(semconv::MESSAGING_KAFKA_OFFSET, delivery.offset);
                let partition =
                    KeyValue::new(semconv::MESSAGING_DESTINATION_PARTITION_ID, partition);
                self.attributes.push(partition);
            }
            Err(error) => {
                let error_type = error_type(error);
                failure::mark(&self.span, error_type.clone(), error.to_string());
                self.attributes
                    .push(KeyValue::new(semconv::ERROR_TYPE, error_type));
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended {
            self.span.set_attribute(semconv::CANCELLED, true);
        }
        let Metrics { duration, sent } = &*METRICS;
        duration.record(self.started.elapsed().as_secs_f64(), &self.attributes);
        sent.add(1, &self.attributes);
    }
}

/// Returns `error.type`: the error code of librdkafka, a low-cardinality value.
fn error_type(error: &KafkaError) -> Cow<'static, str> {
    error
        .rdkafka_error_code()
        .map_or("_OTHER".into(), |code| format!("{code:?}").into())
}

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
