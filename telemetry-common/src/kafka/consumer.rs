//! The process span and the metrics of received messages.

use std::{
    str,
    sync::{Arc, LazyLock},
    thread,
    time::Instant,
};

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

use super::{attributes, extract, integer, messages};
use crate::{scope, semconv};

/// The relation between the process span and the create span of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum TraceRelation {
    /// The process span starts a new trace and links to the create span.
    Link,
    /// The process span is a child of the create span, and also links to it.
    Parent,
}

/// A Kafka consumer, as its spans and metrics record it.
#[derive(Clone, Debug)]
pub struct ConsumerTelemetry {
    group: Arc<str>,
    client_id: Arc<str>,
    relation: TraceRelation,
}

impl ConsumerTelemetry {
    /// `group` is the consumer group, and `client_id` the `client.id` of the consumer. Its process
    /// spans link to the create spans of the messages.
    pub fn new(group: impl Into<Arc<str>>, client_id: impl Into<Arc<str>>) -> Self {
        Self {
            group: group.into(),
            client_id: client_id.into(),
            relation: TraceRelation::Link,
        }
    }

    /// Sets the relation between the process spans and the create spans of the messages.
    #[must_use]
    pub fn relation(mut self, relation: TraceRelation) -> Self {
        self.relation = relation;
        self
    }

    /// Runs `work`, one attempt to process a received message, in a process span and with the
    /// baggage of the message. Returns the output of `work`.
    ///
    /// `attempt` starts at 1. Only the first attempt counts the message as consumed. `error_type`
    /// returns the low-cardinality value of `error.type` if the attempt failed, else `None`. The
    /// duration is recorded when `work` ends, panics or is dropped. If it is dropped, for example because
    /// its partition was revoked, the span has the attribute `telemetry_common.cancelled`.
    pub fn process<F: Future>(
        &self,
        message: &impl Message,
        attempt: u32,
        work: F,
        error_type: impl FnOnce(&F::Output) -> Option<&'static str>,
    ) -> impl Future<Output = F::Output> {
        let created = extract(message);
        let span = self.span(message, &created, attempt);
        let mut processing = Processing {
            is_finished: false,
            started: Instant::now(),
            attributes: self.attributes(message),
        };
        if attempt == 1 {
            METRICS.consumed.add(1, &processing.attributes);
        }
        #[cfg(feature = "sentry")]
        let topic = message.topic().to_owned();
        // Inside the span, so that `work` has both the span and the baggage in its context.
        async move {
            let baggage = created.baggage().iter();
            let baggage = baggage.map(|(key, (value, metadata))| {
                KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
            });
            let context = Context::current_with_baggage(baggage);
            let work = work.with_context(context);
            #[cfg(feature = "sentry")]
            let work = crate::sentry::isolate(async {
                crate::sentry::tag(semconv::MESSAGING_DESTINATION_NAME, &topic);
                crate::sentry::set_transaction_name(format_args!("process {topic}"));
                work.await
            });
            let output = work.await;
            processing.finish(error_type(&output));
            output
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
            { semconv::MESSAGING_CONSUMER_GROUP_NAME } = &*self.group,
            { semconv::MESSAGING_CLIENT_ID } = &*self.client_id,
            { semconv::MESSAGING_MESSAGE_BODY_SIZE } = integer(message.payload().map_or(0, <[u8]>::len)),
            { semconv::MESSAGING_KAFKA_MESSAGE_TOMBSTONE } = message.payload().is_none().then_some(true),
            { semconv::MESSAGING_MESSAGE_ID } = Empty,
            { semconv::MESSAGING_ATTEMPT } = i64::from(attempt),
        );
        let link = created.span().span_context().clone();
        if self.relation == TraceRelation::Parent && link.is_valid() {
            // Must be called before the span is first entered, which starts a new trace. It fails
            // if spans are disabled.
            let _ = span.set_parent(created.clone());
        }
        span.add_link(link);
        span
    }

    fn attributes(&self, message: &impl Message) -> Vec<KeyValue> {
        let mut attributes = attributes("process", message.topic());
        let group = Arc::clone(&self.group);
        attributes.push(KeyValue::new(semconv::MESSAGING_CONSUMER_GROUP_NAME, group));
        let partition = message.partition().to_string();
        attributes.push(KeyValue::new(
            semconv::MESSAGING_DESTINATION_PARTITION_ID,
            partition,
        ));
        attributes
    }
}

/// An attempt that is being made. Its duration is recorded on drop, which happens in its span.
struct Processing {
    is_finished: bool,
    started: Instant,
    attributes: Vec<KeyValue>,
}

impl Processing {
    fn finish(&mut self, error_type: Option<&'static str>) {
        self.is_finished = true;
        let error_type = error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name));
        self.attributes.extend(error_type);
    }
}

impl Drop for Processing {
    fn drop(&mut self) {
        if thread::panicking() {
            self.finish(Some("panic"));
        }
        if !self.is_finished {
            Span::current().set_attribute(semconv::CANCELLED, true);
        }
        let duration = self.started.elapsed().as_secs_f64();
        METRICS.duration.record(duration, &self.attributes);
    }
}

struct Metrics {
    duration: Histogram<f64>,
    consumed: Counter<u64>,
}

/// Created at the first message, because instruments must be created after telemetry is installed.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    duration: scope::seconds(
        semconv::MESSAGING_PROCESS_DURATION,
        "Duration of processing one message",
    ),
    consumed: messages(
        semconv::MESSAGING_CLIENT_CONSUMED_MESSAGES,
        "Number of messages delivered to the application",
    ),
});
