//! Process: a received message is worked on.

use std::{str, sync::LazyLock, time::Duration};

use clap::ValueEnum;
use opentelemetry::{KeyValue, metrics::Histogram, trace::TraceContextExt};
use rdkafka::Message;
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{extract, integer, labels, seconds};
use crate::semconv;

/// How the worker's trace relates to the trace that created the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceRelation {
    /// A trace of its own that links to it.
    Link,
    /// A continuation of it, with the link all the same.
    Parent,
}

/// The span of one attempt at a received message; attempts count from 1.
pub fn process_span(
    message: &impl Message,
    group: &str,
    relation: TraceRelation,
    attempt: u32,
) -> Span {
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
        { semconv::MESSAGING_ATTEMPT } = i64::from(attempt),
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
    let mut labels = labels("process", message.topic());
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
    DURATION.record(took.as_secs_f64(), &labels);
}

/// First touched by the first message, after `init`.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    seconds(
        semconv::MESSAGING_PROCESS_DURATION,
        "Duration of processing one message",
    )
});
