//! Create and send: a message is written down, and handed to the broker.

use std::{borrow::Cow, str, sync::LazyLock, time::Instant};

use opentelemetry::{
    Context, KeyValue,
    metrics::{Counter, Histogram},
    trace::TraceContextExt,
};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::ToBytes,
    producer::{FutureProducer, FutureRecord, Producer as _, future_producer::Delivery},
};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{integer, labels, messages, seconds};
use crate::{failure, semconv};

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

/// A producer whose sends are spans.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer,
    client_id: Option<String>,
}

impl Producer {
    /// A producer with these settings; Kafka need not be there yet.
    pub fn create(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(Self {
            inner: config.create()?,
            client_id: config.get("client.id").map(str::to_owned),
        })
    }

    /// Why it can never send again, if so.
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.client().fatal_error()
    }

    /// Sends a message in a span of its own that links to `causes`, first the context it carries; `id`
    /// is its `messaging.message.id`.
    ///
    /// The message is queued at once, so messages are sent in the order of the calls. The future
    /// resolves when the broker has acknowledged the message, or when that has failed. A future that
    /// is dropped earlier is recorded as cancelled; its message may still be sent.
    pub fn send<K, P>(
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
        let handed_over = self.inner.send_result(record).map_err(|(error, _)| error);
        async move {
            let outcome = match handed_over {
                Ok(delivery) => match delivery.await {
                    Ok(delivered) => delivered.map_err(|(error, _)| error),
                    Err(_) => Err(KafkaError::Canceled), // the producer is gone
                },
                Err(error) => Err(error),
            };
            sending.ended(outcome.as_ref());
            outcome
        }
    }
}

/// One message on its way; measured on drop, however it ends.
struct Sending {
    span: Span,
    started: Instant,
    labels: Vec<KeyValue>,
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
            labels: labels("send", topic),
            ended: false,
        }
    }

    /// Where the message went, or why it did not.
    fn ended(&mut self, outcome: Result<&Delivery, &KafkaError>) {
        self.ended = true;
        match outcome {
            Ok(delivery) => {
                let partition = delivery.partition.to_string();
                let span = &self.span;
                span.record(semconv::MESSAGING_DESTINATION_PARTITION_ID, &partition);
                span.record(semconv::MESSAGING_KAFKA_OFFSET, delivery.offset);
                let partition =
                    KeyValue::new(semconv::MESSAGING_DESTINATION_PARTITION_ID, partition);
                self.labels.push(partition);
            }
            Err(error) => {
                let error_type = error_type(error);
                failure::mark(&self.span, error_type.clone(), error.to_string());
                self.labels
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
        duration.record(self.started.elapsed().as_secs_f64(), &self.labels);
        sent.add(1, &self.labels);
    }
}

/// librdkafka's name of the error: a fixed set.
fn error_type(error: &KafkaError) -> Cow<'static, str> {
    error
        .rdkafka_error_code()
        .map_or("_OTHER".into(), |code| format!("{code:?}").into())
}

struct Metrics {
    duration: Histogram<f64>,
    sent: Counter<u64>,
}

/// First touched by the first message, after `init`.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    duration: seconds(
        semconv::MESSAGING_CLIENT_OPERATION_DURATION,
        "Duration of messaging operations by a producer or consumer client",
    ),
    sent: messages(
        semconv::MESSAGING_CLIENT_SENT_MESSAGES,
        "Messages a producer tried to send",
    ),
});
