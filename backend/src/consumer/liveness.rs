//! The state of the consumer for the health checks. The consumer loop and librdkafka's callbacks
//! record it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
    statistics::Statistics,
};
use service_common::health::Heartbeat;
use telemetry_common::{exception, kafka::ClientLog};
use tracing::info;

use super::{lag::Lag, partitions::Revoked};

/// The maximum time between two polls of the consumer loop. It is longer than any statement
/// timeout.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The state of the consumer. Its clones share the state.
#[derive(Clone, Debug)]
pub struct Liveness {
    joined: Arc<AtomicBool>,
    /// The polls of the consumer loop; empty before the first one.
    polls: Arc<OnceLock<Heartbeat>>,
    lag: Lag,
    pub(super) revoked: Revoked,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            joined: Arc::default(),
            polls: Arc::default(),
            lag: Lag::register(),
            revoked: Revoked::default(),
        }
    }
}

impl Liveness {
    /// Returns whether the consumer loop has started and the coordinator of the group responds.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed) && self.polls.get().is_some()
    }

    /// Returns whether the consumer loop polls. Before the first poll, it waits for the database
    /// and Kafka, which counts as polling.
    pub fn is_polling(&self) -> bool {
        self.polls_within(MAX_POLL_INTERVAL)
    }

    fn polls_within(&self, interval: Duration) -> bool {
        let polls = self.polls.get();
        polls.is_none_or(|polls| polls.age() < interval)
    }

    /// Records a poll of the consumer loop.
    pub(super) fn record_poll(&self) {
        self.polls.get_or_init(Heartbeat::new).beat();
    }
}

impl ClientContext for Liveness {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog.record(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        // "up" means that the coordinator of the group responds. Assigned partitions are no
        // criterion, because there may be more workers than partitions.
        self.lag.set(&statistics);
        let joined = statistics.cgrp.is_some_and(|group| group.state == "up");
        self.joined.store(joined, Ordering::Relaxed);
    }
}

impl ConsumerContext for Liveness {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                info!(name: "bookapp.consumer.partitions.assigned", "{} partitions assigned", partitions.count());
                // Resume partitions that this worker paused before they were revoked.
                if let Err(error) = consumer.resume(partitions) {
                    exception!(
                        warn,
                        "bookapp.consumer.partitions.paused",
                        &error,
                        "the partitions could not be resumed"
                    );
                }
            }
            Rebalance::Revoke(partitions) => {
                self.revoked.add(partitions);
                info!(name: "bookapp.consumer.partitions.revoked", "{} partitions revoked", partitions.count());
            }
            Rebalance::Error(error) => {
                exception!(
                    warn,
                    "bookapp.consumer.group.failed",
                    error,
                    "the consumer group reported an error"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stopped_polling_is_detected() {
        let liveness = Liveness::default();
        assert!(
            liveness.polls_within(Duration::ZERO),
            "the loop has not started"
        );
        liveness.record_poll();
        assert!(!liveness.polls_within(Duration::ZERO));
        assert!(liveness.is_polling());
    }
}
