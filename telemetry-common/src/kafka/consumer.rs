//! Process: a received message is worked on.

use std::{str, sync::LazyLock, time::Duration};

use clap::ValueEnum;
use opentelemetry::{
    Context, KeyValue,
    baggage::{BaggageExt, KeyValueMetadata},
    context::FutureExt,
    metrics::{Counter, Histogram},
    trace::TraceContextExt,
};
use rdkafka::Message;
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{extract, integer, labels, messages, seconds};
use crate::semconv;

/// How the worker's trace relates to the trace that created the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceRelation {
    /// A trace of its own that links to it.
    Link,
    /// A continuation of it, with the link all the same.
    Parent,
}

/// Who consumes, as every span and measurement of it tells.
#[derive(Clone, Debug)]
pub struct Consuming {
    /// The consumer group.
    pub group: &'static str,
    /// The client's name in the broker's eyes.
    pub client_id: &'static str,
    /// How its traces relate to the messages' own.
    pub relation: TraceRelation,
}

impl Consuming {
    /// Runs one attempt at a received message inside its span, whose baggage is the message's;
    /// attempts count from 1.
    pub fn process<F: Future>(
        &self,
        message: &impl Message,
        attempt: u32,
        work: F,
    ) -> impl Future<Output = F::Output> {
        let created = extract(message);
        let span = self.span(message, &created, attempt);
        if attempt == 1 {
            METRICS.consumed.add(1, &self.labels("process", message));
        }
        #[cfg(feature = "sentry")]
        let topic = message.topic().to_owned();
        // Inside the span: what the work starts sees both.
        async move {
            let baggage = created.baggage().iter();
            let baggage = baggage.map(|(key, (value, metadata))| {
                KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
            });
            let carrying = Context::current_with_baggage(baggage);
            let work = work.with_context(carrying);
            #[cfg(feature = "sentry")]
            let work = crate::sentry::isolate(async {
                crate::sentry::tag(semconv::MESSAGING_DESTINATION_NAME, &topic);
                crate::sentry::name_work(format_args!("process {topic}"));
                work.await
            });
            work.await
        }
        .instrument(span)
    }

    fn span(&self, message: &impl Message, created: &Context, attempt: u32) -> Span {
        let topic = message.topic();
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
            { semconv::MESSAGING_KAFKA_MESSAGE_KEY } = message.key().and_then(|key| str::from_utf8(key).ok()),
            { semconv::MESSAGING_CONSUMER_GROUP_NAME } = self.group,
            { semconv::MESSAGING_CLIENT_ID } = self.client_id,
            { semconv::MESSAGING_MESSAGE_BODY_SIZE } = integer(message.payload().map_or(0, <[u8]>::len)),
            { semconv::MESSAGING_KAFKA_MESSAGE_TOMBSTONE } = message.payload().is_none().then_some(true),
            { semconv::MESSAGING_MESSAGE_ID } = Empty,
            { semconv::MESSAGING_ATTEMPT } = i64::from(attempt),
        );
        let link = created.span().span_context().clone();
        if self.relation == TraceRelation::Parent && link.is_valid() {
            // Before the span is first entered, else a new trace has begun; where spans are off
            // there is nothing to set.
            let _ = span.set_parent(created.clone());
        }
        span.add_link(link);
        span
    }

    /// Measures one attempt; `error_type`, a word from a fixed set, where it failed.
    pub fn processed(
        &self,
        message: &impl Message,
        took: Duration,
        error_type: Option<&'static str>,
    ) {
        let mut labels = self.labels("process", message);
        labels.extend(error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name)));
        METRICS.duration.record(took.as_secs_f64(), &labels);
    }

    fn labels(&self, operation: &'static str, message: &impl Message) -> Vec<KeyValue> {
        let mut labels = labels(operation, message.topic());
        labels.push(KeyValue::new(
            semconv::MESSAGING_CONSUMER_GROUP_NAME,
            self.group,
        ));
        let partition = message.partition().to_string();
        labels.push(KeyValue::new(
            semconv::MESSAGING_DESTINATION_PARTITION_ID,
            partition,
        ));
        labels
    }
}

struct Metrics {
    duration: Histogram<f64>,
    consumed: Counter<u64>,
}

/// First touched by the first message, after `init`.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    duration: seconds(
        semconv::MESSAGING_PROCESS_DURATION,
        "Duration of processing one message",
    ),
    consumed: messages(
        semconv::MESSAGING_CLIENT_CONSUMED_MESSAGES,
        "Messages delivered to the application",
    ),
});
