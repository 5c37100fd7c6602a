//! Messages that are processed together: one receive span of the batch, and one process span of each
//! message.

use std::{
    ops::Range,
    sync::Arc,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Context,
    trace::{Link, SpanBuilder, SpanContext, SpanKind, TraceContextExt},
};
use rdkafka::Message;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    ConsumerTelemetry, TraceRelation,
    consumer::{METRICS, Unfinished, key},
    extract, integer,
};
use crate::{
    edge::{self, Attributes},
    semconv,
};

impl ConsumerTelemetry {
    /// Runs `work`, which processes messages of one partition together, in a receive span. Returns the
    /// output of `work`.
    ///
    /// ```no_run
    /// # struct Failure;
    /// # async fn store(messages: &[rdkafka::message::OwnedMessage]) -> Result<(), Failure> { Ok(()) }
    /// # async fn example(messages: Vec<rdkafka::message::OwnedMessage>) -> Result<(), Failure> {
    /// use telemetry_common::kafka::ConsumerTelemetry;
    /// use tracing::info;
    ///
    /// let telemetry = ConsumerTelemetry::new("billing", "billing-1");
    /// let work = store(&messages);
    /// telemetry.process_batch(&messages, work, |index, ()| info!("message {index} is stored")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// If `work` succeeds, each message has a process span, as after [`process`](Self::process). The span
    /// starts and ends with `work`, and also links to the receive span. `processed` is called in each of these
    /// spans, with the index of the message and the output of `work`. There it sets further attributes with
    /// [`set_attribute`](crate::set_attribute), and logs. The metrics count and measure each message.
    ///
    /// If `work` fails, no message counts as processed. Process each of them with `process`, whose span records
    /// the failure of that message. `work` itself records its failure on its span, with
    /// [`record_failure`](crate::record_failure). If `work` is dropped, the receive span has the attribute
    /// `telemetry_common.cancelled`.
    ///
    /// The receive span has no links to the messages, because a span may have 128 links at most. Log records
    /// of `work` belong to the receive span. `work` does not have the baggage of the messages.
    pub async fn process_batch<T, E>(
        &self,
        messages: &[impl Message],
        work: impl Future<Output = Result<T, E>>,
        processed: impl Fn(usize, &T),
    ) -> Result<T, E> {
        let Some(first) = messages.first() else {
            return work.await;
        };
        let span = self.receive_span(first, messages.len());
        let received = span.context().span().span_context().clone();
        let (start, started) = (SystemTime::now(), Instant::now());
        let work = async {
            let unfinished = Unfinished;
            let output = work.await;
            unfinished.end();
            output
        };
        let output = work.instrument(span).await?;
        let duration = started.elapsed();
        let batch = Batch {
            telemetry: self,
            topic: first.topic().into(),
            partition: first.partition().to_string().into(),
            received,
            time: start..start + duration,
        };
        let attributes = self.attributes(first);
        METRICS.consumed.add(messages.len() as u64, &attributes);
        for (index, message) in messages.iter().enumerate() {
            if edge::is_exported() {
                batch.in_process_span(message, || processed(index, &output));
            } else {
                processed(index, &output);
            }
            METRICS.duration.record(duration.as_secs_f64(), &attributes);
        }
        Ok(output)
    }

    fn receive_span(&self, first: &impl Message, count: usize) -> Span {
        let topic = first.topic();
        info_span!(
            parent: None,
            "kafka.receive",
            otel.name = format!("receive {topic}"),
            otel.kind = "client",
            { semconv::MESSAGING_SYSTEM } = "kafka",
            { semconv::MESSAGING_OPERATION_NAME } = "receive",
            { semconv::MESSAGING_OPERATION_TYPE } = "receive",
            { semconv::MESSAGING_DESTINATION_NAME } = topic,
            { semconv::MESSAGING_DESTINATION_PARTITION_ID } = first.partition().to_string(),
            { semconv::MESSAGING_CONSUMER_GROUP_NAME } = &*self.group,
            { semconv::MESSAGING_CLIENT_ID } = &*self.client_id,
            { semconv::MESSAGING_BATCH_MESSAGE_COUNT } = integer(count),
        )
    }
}

/// A batch that was processed.
struct Batch<'t> {
    telemetry: &'t ConsumerTelemetry,
    topic: Arc<str>,
    partition: Arc<str>,
    /// The receive span.
    received: SpanContext,
    time: Range<SystemTime>,
}

impl Batch<'_> {
    /// Calls `processed` in the process span of a message.
    fn in_process_span(&self, message: &impl Message, processed: impl FnOnce()) {
        let created = extract(message);
        let create = created.span().span_context().clone();
        let is_child = self.telemetry.relation == TraceRelation::Parent && create.is_valid();
        let parent = if is_child { created } else { Context::new() };
        let links = [create, self.received.clone()];
        let links = links.into_iter().filter(SpanContext::is_valid);
        let span = SpanBuilder::from_name("")
            .with_kind(SpanKind::Consumer)
            .with_start_time(self.time.start)
            .with_links(links.map(Link::with_context).collect());
        let context = edge::context_of(span, &parent, |attributes| {
            self.describe(message, attributes);
            format!("process {}", self.topic).into()
        });
        let entered = context.clone().attach();
        processed();
        drop(entered);
        context.span().end_with_timestamp(self.time.end);
    }

    /// Adds the attributes, which are those of a message that is processed alone.
    fn describe(&self, message: &impl Message, attributes: &mut Attributes) {
        let telemetry = self.telemetry;
        let tombstone = message.payload().is_none().then_some(true);
        let size = integer(message.payload().map_or(0, <[u8]>::len));
        attributes.add(semconv::MESSAGING_SYSTEM, "kafka");
        attributes.add(semconv::MESSAGING_OPERATION_NAME, "process");
        attributes.add(semconv::MESSAGING_OPERATION_TYPE, "process");
        attributes.add(semconv::MESSAGING_DESTINATION_NAME, Arc::clone(&self.topic));
        attributes.add(
            semconv::MESSAGING_DESTINATION_PARTITION_ID,
            Arc::clone(&self.partition),
        );
        attributes.add(semconv::MESSAGING_KAFKA_OFFSET, message.offset());
        attributes.add_some(
            semconv::MESSAGING_KAFKA_MESSAGE_KEY,
            key(message).map(str::to_owned),
        );
        attributes.add(
            semconv::MESSAGING_CONSUMER_GROUP_NAME,
            Arc::clone(&telemetry.group),
        );
        attributes.add(
            semconv::MESSAGING_CLIENT_ID,
            Arc::clone(&telemetry.client_id),
        );
        attributes.add(semconv::MESSAGING_MESSAGE_BODY_SIZE, size);
        attributes.add_some(semconv::MESSAGING_KAFKA_MESSAGE_TOMBSTONE, tombstone);
        attributes.add(semconv::MESSAGING_ATTEMPT, 1);
    }
}
