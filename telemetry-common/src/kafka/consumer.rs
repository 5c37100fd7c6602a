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
    metrics::{Counter, Histogram},
    trace::{SpanContext, SpanKind, TraceContextExt},
};
use rdkafka::Message;
use tracing::info_span;

use super::{describe, extract, integer, messages};
use crate::{
    current::Current,
    edge::{self, Attributes},
    scope, semconv,
    task::run_in,
};

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
        let baggage = baggage_of(&created);
        let partition = Partition::of(message);
        let topic = &*partition.topic;
        let (parent, link) = self.parent_and_link(created);
        let edge = edge::start(parent, SpanKind::Consumer, [link], |attributes| {
            self.describe(attributes, &partition, message, attempt);
            format!("process {topic}").into()
        });
        let fields = info_span!(
            target: edge::TARGET,
            "kafka.process",
            { semconv::MESSAGING_DESTINATION_NAME } = topic,
            { semconv::MESSAGING_DESTINATION_PARTITION_ID } = &*partition.id,
            { semconv::MESSAGING_KAFKA_OFFSET } = message.offset(),
        );
        let context = edge.context.with_baggage(baggage);
        let transaction = || format!("process {topic}").into();
        let tags = [(semconv::MESSAGING_DESTINATION_NAME, Some(topic))];
        let current = Current::of_request(fields, context, transaction, &tags);
        let mut processing = Processing {
            span: SpanOfWork::new(edge.span),
            started: Instant::now(),
            attributes: self.attributes(&partition),
        };
        if attempt == 1 {
            METRICS.consumed.add(1, &processing.attributes);
        }
        run_in(current, async move {
            let output = work.await;
            processing.finish(error_type(&output));
            output
        })
    }

    /// Returns the parent of a process span, and the create span of its message, to which it links.
    pub(super) fn parent_and_link(&self, created: Context) -> (Context, SpanContext) {
        let link = created.span().span_context().clone();
        match self.relation {
            TraceRelation::Parent if link.is_valid() => (created, link),
            _ => (Context::new(), link),
        }
    }

    /// Adds the attributes of a process span.
    pub(super) fn describe(
        &self,
        attributes: &mut Attributes,
        partition: &Partition,
        message: &impl Message,
        attempt: u32,
    ) {
        let key = message.key().and_then(|key| str::from_utf8(key).ok());
        let key = key.map(str::to_owned);
        let size = integer(message.payload().map_or(0, <[u8]>::len));
        let tombstone = message.payload().is_none().then_some(true);
        let client_id = Arc::clone(&self.client_id);
        self.describe_partition(attributes, "process", partition);
        attributes.add(semconv::MESSAGING_CLIENT_ID, client_id);
        attributes.add(semconv::MESSAGING_KAFKA_OFFSET, message.offset());
        attributes.add_some(semconv::MESSAGING_KAFKA_MESSAGE_KEY, key);
        attributes.add(semconv::MESSAGING_MESSAGE_BODY_SIZE, size);
        attributes.add_some(semconv::MESSAGING_KAFKA_MESSAGE_TOMBSTONE, tombstone);
        attributes.add(semconv::MESSAGING_ATTEMPT, i64::from(attempt));
    }

    /// Adds the attributes that the spans and the metrics of the messages of a partition have.
    pub(super) fn describe_partition(
        &self,
        attributes: &mut Attributes,
        operation: &'static str,
        partition: &Partition,
    ) {
        let (topic, id) = (Arc::clone(&partition.topic), Arc::clone(&partition.id));
        let group = Arc::clone(&self.group);
        describe(attributes, operation, topic);
        attributes.add(semconv::MESSAGING_CONSUMER_GROUP_NAME, group);
        attributes.add(semconv::MESSAGING_DESTINATION_PARTITION_ID, id);
    }

    /// Returns the attributes of the metrics of processed messages.
    pub(super) fn attributes(&self, partition: &Partition) -> Vec<KeyValue> {
        let mut attributes = Attributes(Vec::with_capacity(7));
        self.describe_partition(&mut attributes, "process", partition);
        attributes.0
    }
}

/// The partition of a message.
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) id: Arc<str>,
}

impl Partition {
    pub(super) fn of(message: &impl Message) -> Self {
        Self {
            topic: message.topic().into(),
            id: message.partition().to_string().into(),
        }
    }
}

/// Returns the baggage of a message.
fn baggage_of(created: &Context) -> Vec<KeyValueMetadata> {
    let baggage = created.baggage().iter();
    baggage
        .map(|(key, (value, metadata))| {
            KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
        })
        .collect()
}

/// An attempt that is being made. Its duration is recorded on drop, which happens in its span.
struct Processing {
    span: SpanOfWork,
    started: Instant,
    attributes: Vec<KeyValue>,
}

impl Processing {
    fn finish(&mut self, error_type: Option<&'static str>) {
        self.span.finish();
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

/// The span of work, which ends when it is dropped. Work that has not ended by then is cancelled, unless it
/// panics.
pub(super) struct SpanOfWork {
    /// The context that contains the span, or is empty.
    context: Context,
    work_has_ended: bool,
}

impl SpanOfWork {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            work_has_ended: false,
        }
    }

    /// The work has ended.
    pub(super) fn finish(&mut self) {
        self.work_has_ended = true;
    }
}

impl Drop for SpanOfWork {
    fn drop(&mut self) {
        let span = self.context.span();
        if !self.work_has_ended && !thread::panicking() {
            span.set_attribute(KeyValue::new(semconv::CANCELLED, true));
        }
        span.end();
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
