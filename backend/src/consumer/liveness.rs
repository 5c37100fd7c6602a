//! The state of the consumer for the health checks. The consumer loop and librdkafka's callbacks
//! record it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    statistics::Statistics,
};
use telemetry_common::exception;
use tracing::info;

use super::lag::Lag;

/// The maximum time between two polls of the consumer loop. It is longer than any statement
/// timeout.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The state of the consumer. Its clones share the state.
#[derive(Clone, Debug)]
pub struct Liveness {
    joined: Arc<AtomicBool>,
    created: Instant,
    /// The time of the last poll, in milliseconds after `created`; 0 before the first poll.
    last_poll: Arc<AtomicU64>,
    lag: Lag,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            joined: Arc::default(),
            created: Instant::now(),
            last_poll: Arc::default(),
            lag: Lag::register(),
        }
    }
}

impl Liveness {
    /// Returns whether the consumer loop has started and the coordinator of the group responds.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed) && self.last_poll.load(Ordering::Relaxed) > 0
    }

    /// Returns whether the consumer loop polls. Before the first poll, it waits for the database
    /// and Kafka, which counts as polling.
    pub fn is_polling(&self) -> bool {
        match self.last_poll.load(Ordering::Relaxed) {
            0 => true,
            last => self.age().saturating_sub(Duration::from_millis(last)) < MAX_POLL_INTERVAL,
        }
    }

    /// Records a poll of the consumer loop.
    pub(super) fn record_poll(&self) {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.last_poll.store(age.max(1), Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.created.elapsed()
    }
}

impl ClientContext for Liveness {
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
        let Some(created) = Instant::now().checked_sub(Duration::from_mins(2)) else {
            return;
        };
        let liveness = Liveness {
            created,
            ..Liveness::default()
        };
        assert!(liveness.is_polling(), "the loop has not started");
        liveness.last_poll.store(60_000, Ordering::Relaxed);
        assert!(!liveness.is_polling());
        liveness.record_poll();
        assert!(liveness.is_polling());
    }
}
