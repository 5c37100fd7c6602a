//! Whether the consumer lives: told by Kafka and by the loop, asked by health.

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

/// How long the loop may take to come round: longer than any statement may run.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// Shared by the loop, librdkafka's callbacks and health.
#[derive(Clone, Debug)]
pub struct Liveness {
    joined: Arc<AtomicBool>,
    born: Instant,
    /// Milliseconds after birth of the loop's last turn; 0 before the first.
    last_turn: Arc<AtomicU64>,
    lag: Lag,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            joined: Arc::default(),
            born: Instant::now(),
            last_turn: Arc::default(),
            lag: Lag::observed(),
        }
    }
}

impl Liveness {
    /// Whether the loop has begun and the group's coordinator answers.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed) && self.last_turn.load(Ordering::Relaxed) > 0
    }

    /// Whether the loop turns; before its first turn it waits for the database and Kafka.
    pub fn is_turning(&self) -> bool {
        match self.last_turn.load(Ordering::Relaxed) {
            0 => true,
            last => self.age().saturating_sub(Duration::from_millis(last)) < LONGEST_TURN,
        }
    }

    pub(super) fn turn(&self) {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.last_turn.store(age.max(1), Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.born.elapsed()
    }
}

impl ClientContext for Liveness {
    fn stats(&self, statistics: Statistics) {
        // "up": the group's coordinator answers. Whether partitions are assigned says nothing: there
        // may be more workers than partitions.
        self.lag.show(&statistics);
        let joined = statistics.cgrp.is_some_and(|group| group.state == "up");
        self.joined.store(joined, Ordering::Relaxed);
    }
}

impl ConsumerContext for Liveness {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                info!(name: "bookapp.consumer.partitions.assigned", "{} partitions assigned", partitions.count());
                // One that waited here before starts afresh.
                if let Err(error) = consumer.resume(partitions) {
                    exception!(
                        warn,
                        "bookapp.consumer.partitions.paused",
                        &error,
                        "partitions stay paused"
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
                    "the group has a problem"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stopped_turning_is_told() {
        let Some(born) = Instant::now().checked_sub(Duration::from_mins(2)) else {
            return;
        };
        let liveness = Liveness {
            born,
            ..Liveness::default()
        };
        assert!(liveness.is_turning(), "it has not begun");
        liveness.last_turn.store(60_000, Ordering::Relaxed);
        assert!(!liveness.is_turning());
        liveness.turn();
        assert!(liveness.is_turning());
    }
}
