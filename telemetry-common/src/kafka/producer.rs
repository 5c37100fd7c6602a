//! Create and send: a message is written down, and handed to the broker.

use std::{
    borrow::Cow,
    str,
    sync::LazyLock,
    time::{Duration, Instant},
};

use opentelemetry::{Context, KeyValue, metrics::Histogram, trace::TraceContextExt};
use rdkafka::{
    error::{KafkaError, KafkaResult},
    message::ToBytes,
    producer::{FutureProducer, FutureRecord, future_producer::Delivery},
};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{integer, labels, seconds};
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

/// Sends a message in a span of its own that links to `causes`, first the context it carries.
///
/// The message is handed over at once, so that calls in order are sends in order; the future
/// resolves when the broker has acknowledged it, or will not.
pub fn send<K, P>(
    producer: &FutureProducer,
    record: FutureRecord<'_, K, P>,
    causes: &[&Context],
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
    let span = send_span(&topic, key, size, causes);
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

fn send_span(topic: &str, key: Option<&str>, size: usize, causes: &[&Context]) -> Span {
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
    for cause in causes {
        span.add_link(cause.span().span_context().clone());
    }
    span
}

/// Where the message went, or why it did not.
fn sent(span: &Span, topic: &str, took: Duration, outcome: Result<&Delivery, &KafkaError>) {
    let mut labels = labels("send", topic);
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
    DURATION.record(took.as_secs_f64(), &labels);
}

/// librdkafka's name of the error: a fixed set.
fn error_type(error: &KafkaError) -> Cow<'static, str> {
    error
        .rdkafka_error_code()
        .map_or("_OTHER".into(), |code| format!("{code:?}").into())
}

/// First touched by the first message, after `init`.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds(
        semconv::MESSAGING_CLIENT_OPERATION_DURATION,
        "Duration of messaging operations by a producer or consumer client",
    )
});
