//! The metric of the consumer lag: the number of messages of each assigned partition that are not
//! completed, as librdkafka reports it.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use rdkafka::statistics::Statistics;
use telemetry_common::{meter_of, semconv, service};

/// The latest lag of each assigned partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Lag(Arc<Mutex<Vec<(String, i32, i64)>>>);

impl Lag {
    /// Registers the gauge. Each export of metrics reads the latest lag.
    pub(super) fn register() -> Self {
        let lag = Self::default();
        let current = lag.clone();
        meter_of(service!())
            .i64_observable_gauge("bookapp.consumer.lag")
            .with_unit("{message}")
            .with_description("Number of messages of an assigned partition that are not completed yet, as librdkafka reports it")
            .with_callback(move |gauge| {
                for (topic, partition, lag) in current.get().iter() {
                    let topic = KeyValue::new(semconv::MESSAGING_DESTINATION_NAME, topic.clone());
                    let partition = KeyValue::new(
                        semconv::MESSAGING_DESTINATION_PARTITION_ID,
                        partition.to_string(),
                    );
                    gauge.observe(*lag, &[topic, partition]);
                }
            })
            .build();
        lag
    }

    /// Stores the lag from the statistics of librdkafka, where -1 means unknown.
    pub(super) fn set(&self, statistics: &Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| {
            let known = topic.partitions.values();
            let known = known.filter(|partition| partition.consumer_lag >= 0);
            known.map(|known| (topic.topic.clone(), known.partition, known.consumer_lag))
        });
        *self.get() = partitions.collect();
    }

    fn get(&self) -> std::sync::MutexGuard<'_, Vec<(String, i32, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
