//! The process span and the metrics of received messages.

use std::{
    mem, str,
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
    pub(super) group: Arc<str>,
    pub(super) client_id: Arc<str>,
    pub(super) relation: TraceRelation,
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
            unfinished: Some(Unfinished),
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
            { semconv::MESSAGING_KAFKA_MESSAGE_KEY } = key(message),
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

    pub(super) fn attributes(&self, message: &impl Message) -> Vec<KeyValue> {
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

/// Returns the key of a message if it is text.
pub(super) fn key(message: &impl Message) -> Option<&str> {
    str::from_utf8(message.key()?).ok()
}

/// An attempt that is being made. Its duration is recorded on drop, which happens in its span.
struct Processing {
    /// `None` after the end.
    unfinished: Option<Unfinished>,
    started: Instant,
    attributes: Vec<KeyValue>,
}

impl Processing {
    fn finish(&mut self, error_type: Option<&'static str>) {
        if let Some(unfinished) = self.unfinished.take() {
            unfinished.end();
        }
        let error_type = error_type.map(|name| KeyValue::new(semconv::ERROR_TYPE, name));
        self.attributes.extend(error_type);
    }
}

impl Drop for Processing {
    fn drop(&mut self) {
        if thread::panicking() {
            self.finish(Some("panic"));
        }
        let duration = self.started.elapsed().as_secs_f64();
        METRICS.duration.record(duration, &self.attributes);
    }
}

/// Work that has not ended. If it is dropped, its span, which is the current one, is cancelled, unless it
/// panics.
pub(super) struct Unfinished;

impl Unfinished {
    /// The work has ended.
    pub(super) fn end(self) {
        mem::forget(self);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !thread::panicking() {
            Span::current().set_attribute(semconv::CANCELLED, true);
        }
    }
}

pub(super) struct Metrics {
    pub(super) duration: Histogram<f64>,
    pub(super) consumed: Counter<u64>,
}

/// Created at the first message, because instruments must be created after telemetry is installed.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    duration: scope::seconds(
        semconv::MESSAGING_PROCESS_DURATION,
        "Duration of processing one message",
    ),
    consumed: messages(
        semconv::MESSAGING_CLIENT_CONSUMED_MESSAGES,
        "Number of messages delivered to the application",
    ),
});
