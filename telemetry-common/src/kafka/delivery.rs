//! A producer that returns a future for each message, and whose thread sleeps while there is nothing to do.
//!
//! The thread of rdkafka's `FutureProducer` wakes every 100 ms, and then spins until the millisecond is over,
//! because librdkafka counts in milliseconds. That was almost all of the CPU time of an idle service.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::ToBytes,
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, FutureRecord, Producer as _, ProducerContext,
        future_producer::Delivery,
    },
};
use tokio::sync::oneshot;

use super::ClientLog;

/// How long the thread waits for events.
const WAIT: Duration = Duration::from_secs(2);

/// A producer. Within [`WAIT`] after it is dropped, its thread ends, and what is not delivered then fails.
pub(super) struct DeliveringProducer(Arc<BaseProducer<Deliveries>>);

impl DeliveringProducer {
    pub(super) fn create(config: &ClientConfig) -> KafkaResult<Self> {
        let producer = BaseProducer::from_config_and_context(config, Deliveries)?;
        let producer = Arc::new(producer);
        let polled = Arc::clone(&producer);
        let thread = thread::Builder::new().name("kafka-producer".to_owned());
        let started = thread.spawn(move || {
            // Until only this thread has the producer.
            while Arc::strong_count(&polled) > 1 {
                polled.poll(WAIT);
            }
        });
        started.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self(producer))
    }

    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.client().fatal_error()
    }

    /// Enqueues a message. The future resolves when the broker has acknowledged it, or the delivery has
    /// failed.
    pub(super) fn send<K, P>(
        &self,
        record: FutureRecord<'_, K, P>,
    ) -> KafkaResult<impl Future<Output = KafkaResult<Delivery>> + use<K, P>>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let (delivered, delivery) = oneshot::channel();
        let record = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.payload,
            key: record.key,
            timestamp: record.timestamp,
            headers: record.headers,
            delivery_opaque: Box::new(delivered),
        };
        self.0.send(record).map_err(|(error, _)| error)?;
        Ok(async { delivery.await.unwrap_or(Err(KafkaError::Canceled)) })
    }
}

/// Passes each delivery to the future that waits for it.
pub(super) struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<KafkaResult<Delivery>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivery = match result {
            Ok(message) => Ok(Delivery {
                partition: message.partition(),
                offset: message.offset(),
                timestamp: message.timestamp(),
            }),
            Err((error, _)) => Err(error.clone()),
        };
        // It fails if the future was dropped.
        let _ = waiting.send(delivery);
    }
}
