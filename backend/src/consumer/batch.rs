//! Processes the messages of a partition in order: many in one transaction, or one by one.

use book_events::{BOOK_ID, BookEvent};
use rdkafka::{Message, message::OwnedMessage};
use service_common::fault_injection::PROCESS;
use telemetry_common::{RequestId, exception, record_failure, semconv, set_attribute};
use tokio_util::sync::CancellationToken;

use super::processor::{Processor, catch_panic};
use crate::ingestion::{self, Ingested, IngestionError};

impl Processor {
    /// Processes messages of one partition, in order, until all are completed or `stop` is cancelled. Calls
    /// `completed` with a message when it and all before it are completed.
    ///
    /// Messages that failed together are processed alone. So each message has attempts, a failure and a dead
    /// letter of its own.
    pub(super) async fn complete_all(
        &self,
        messages: &[OwnedMessage],
        stop: &CancellationToken,
        completed: impl Fn(&OwnedMessage),
    ) {
        let mut rest = messages;
        // The number of next messages that are processed alone, because they failed together.
        let mut alone = 0;
        while !rest.is_empty() && !stop.is_cancelled() {
            let events = if alone > 0 {
                Vec::new()
            } else {
                self.events(rest)
            };
            let count = if events.len() > 1 {
                let batch = &rest[..events.len()];
                if let Err(error) = self.process_together(batch, &events).await {
                    // An error that may pass concerns all of them. When the first message is completed, it
                    // has passed.
                    let has_culprit =
                        !error.is_transient() || matches!(error, IngestionError::Panic);
                    alone = if has_culprit { events.len() } else { 1 };
                    continue;
                }
                events.len()
            } else {
                if !self.complete(&rest[0], stop).await {
                    return;
                }
                alone = alone.saturating_sub(1);
                1
            };
            self.metrics.batch(count);
            completed(&rest[count - 1]);
            rest = &rest[count..];
        }
    }

    /// Returns the events of the first messages that can be processed together. A message that is no event
    /// becomes a dead letter, alone. So does a message into which a fault may be injected.
    fn events(&self, messages: &[OwnedMessage]) -> Vec<BookEvent> {
        let may_fail = |message: &OwnedMessage| {
            let faults = self.faults.as_ref();
            faults.is_some_and(|faults| faults.may_inject(PROCESS, message.topic()))
        };
        messages
            .iter()
            .map_while(|message| {
                let event = BookEvent::decode(message.payload()).ok()?;
                (!may_fail(message)).then_some(event)
            })
            .collect()
    }

    /// Processes the events of these messages in one transaction. A failure is recorded on the receive span
    /// and logged.
    async fn process_together(
        &self,
        messages: &[OwnedMessage],
        events: &[BookEvent],
    ) -> Result<(), IngestionError> {
        let work = async {
            // On the heap, because a future that may open a connection is large.
            let ingesting = Box::pin(ingestion::enrich_all(&self.db, events));
            let ingested = catch_panic(ingesting).await;
            ingested.inspect_err(|error| {
                record_failure(error.kind(), error);
                exception!(
                    warn,
                    "bookapp.batch.failed",
                    error,
                    "{} messages could not be processed together and are processed alone",
                    messages.len()
                );
            })
        };
        let processed = |index: usize, ingested: &Vec<Ingested>| {
            let (event, ingested) = (&events[index], ingested[index]);
            set_attribute(semconv::MESSAGING_MESSAGE_ID, event.event_id.to_string());
            set_attribute(BOOK_ID, i64::from(event.book_id));
            match RequestId::parse(&event.request_id) {
                Some(id) => id.in_scope(|| ingested.log(event.book_id)),
                None => ingested.log(event.book_id),
            }
            if ingested != Ingested::Duplicate {
                self.metrics.ingested(event);
            }
        };
        let processing = self.consuming.process_batch(messages, work, processed);
        processing.await.map(drop)
    }
}
