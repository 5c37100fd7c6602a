//! How many messages of each assigned partition are not yet settled, as librdkafka counts them.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use rdkafka::statistics::Statistics;
use telemetry_common::{meter_of, semconv, service};

/// The newest lag of each assigned partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Lag(Arc<Mutex<Vec<(String, i32, i64)>>>);

impl Lag {
    /// A gauge that is read whenever metrics are exported.
    pub(super) fn observed() -> Self {
        let lag = Self::default();
        let shown = lag.clone();
        meter_of(service!())
            .i64_observable_gauge("bookapp.consumer.lag")
            .with_unit("{message}")
            .with_description("Messages of a partition that are not settled yet")
            .with_callback(move |gauge| {
                for (topic, partition, lag) in shown.get().iter() {
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

    /// Takes over what librdkafka says; -1 is its word for what it does not know.
    pub(super) fn show(&self, statistics: &Statistics) {
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
