//! Messages that are processed together: one receive span of the batch, and one process span of each
//! message.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Context,
    trace::{SpanKind, TraceContextExt},
};
use rdkafka::Message;
use tracing::info_span;

use super::{
    ConsumerTelemetry,
    consumer::{METRICS, Partition, SpanOfWork},
    extract, integer,
};
use crate::{
    current::Current,
    edge::{self, Edge},
    sampling::{self, Randomness},
    semconv,
    task::run_in,
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
    /// The receive span links to one of the messages, because a span may have 128 links at most: to one that
    /// [sampling](crate::sampling) keeps if it keeps any. Log records of `work` belong to the receive span.
    /// `work` does not have the baggage of the messages.
    pub async fn process_batch<T, E>(
        &self,
        messages: &[impl Message],
        work: impl Future<Output = Result<T, E>>,
        processed: impl Fn(usize, &T),
    ) -> Result<T, E> {
        let Some(first) = messages.first() else {
            return work.await;
        };
        let partition = Partition::of(first);
        let created: Vec<_> = messages.iter().map(extract).collect();
        let receive = self.receive(&partition, &created);
        let received = receive.context.span().span_context().clone();
        let fields = info_span!(
            target: edge::TARGET,
            "kafka.receive",
            { semconv::MESSAGING_DESTINATION_NAME } = &*partition.topic,
            { semconv::MESSAGING_DESTINATION_PARTITION_ID } = &*partition.id,
        );
        let current = Current::of_call(fields, receive.context);
        let mut span = SpanOfWork::new(receive.span);
        let (start, started) = (SystemTime::now(), Instant::now());
        let work = run_in(current, async move {
            let output = work.await;
            span.finish();
            output
        });
        let output = work.await?;
        let duration = started.elapsed();
        let attributes = self.attributes(&partition);
        METRICS.consumed.add(messages.len() as u64, &attributes);
        let measured = METRICS.duration.bind(&attributes);
        for (index, (message, created)) in messages.iter().zip(created).enumerate() {
            let (parent, created) = self.parent_and_link(created);
            let links = [created, received.clone()];
            let kind = SpanKind::Consumer;
            let process = edge::start_at(start, parent, kind, links, |attributes| {
                self.describe(attributes, &partition, message, 1);
                format!("process {}", partition.topic).into()
            });
            let entered = process.context.attach();
            processed(index, &output);
            drop(entered);
            process.span.span().end_with_timestamp(start + duration);
            measured.record(duration.as_secs_f64());
        }
        Ok(output)
    }

    /// Starts the receive span of a batch, from the contexts of the messages. It links to the message that is
    /// kept longest by sampling, and so it is kept as long as one of them: with a higher probability than that message.
    fn receive(&self, partition: &Partition, created: &[Context]) -> Edge {
        let link = created.iter().max_by_key(|created| {
            let span = created.span();
            let span = span.span_context();
            (span.is_valid(), span.is_sampled(), Randomness::of(span))
        });
        let link = link.map(|message| {
            let span = message.span();
            match created.len() {
                1 => span.span_context().clone(),
                _ => sampling::without_threshold(span.span_context()),
            }
        });
        edge::start(Context::new(), SpanKind::Client, link, |attributes| {
            self.describe_partition(attributes, "receive", partition);
            let client_id = Arc::clone(&self.client_id);
            attributes.add(semconv::MESSAGING_CLIENT_ID, client_id);
            attributes.add(
                semconv::MESSAGING_BATCH_MESSAGE_COUNT,
                integer(created.len()),
            );
            format!("receive {}", partition.topic).into()
        })
    }
}
