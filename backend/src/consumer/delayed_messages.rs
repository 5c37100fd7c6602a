//! Messages that failed with a transient error and wait for their next attempt.

use std::time::Duration;

use rdkafka::{Message, message::OwnedMessage};
use tokio::time::{Instant, sleep_until};

/// The delay after the first failed attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// The maximum delay, without the jitter.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// A message and the number of its next attempt.
#[derive(Debug)]
pub(super) struct DelayedMessage {
    pub(super) message: OwnedMessage,
    pub(super) attempt: u32,
    /// Whether its partition is paused for it.
    pub(super) is_paused: bool,
    due: Instant,
}

impl DelayedMessage {
    /// Creates the entry for the first attempt, which is due now.
    pub(super) fn first(message: OwnedMessage) -> Self {
        Self {
            message,
            attempt: 1,
            is_paused: false,
            due: Instant::now(),
        }
    }
}

/// The delayed messages, at most one of each partition: a partition is paused while its message
/// waits.
#[derive(Debug, Default)]
pub(super) struct DelayedMessages(Vec<DelayedMessage>);

impl DelayedMessages {
    /// Adds a message after its failed attempt.
    pub(super) fn add(&mut self, failed: DelayedMessage) {
        let due = Instant::now() + backoff(failed.attempt);
        self.0.push(DelayedMessage {
            attempt: failed.attempt + 1,
            due,
            ..failed
        });
    }

    /// Removes the message of a partition, because it was delivered again and starts with its first
    /// attempt.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        self.0.retain(|delayed| {
            (delayed.message.topic(), delayed.message.partition()) != (topic, partition)
        });
    }

    /// Waits until a message is due, and returns it. Never returns if there is no message.
    ///
    /// The future is cancel safe: dropping it loses no message.
    pub(super) async fn next(&mut self) -> DelayedMessage {
        let Some(next) = (0..self.0.len()).min_by_key(|index| self.0[*index].due) else {
            return std::future::pending().await;
        };
        sleep_until(self.0[next].due).await;
        self.0.swap_remove(next)
    }
}

/// Returns the delay after an attempt: exponential backoff up to a limit, with a jitter of ±50 %.
/// The jitter prevents that workers which failed at the same time also retry at the same time.
fn backoff(attempt: u32) -> Duration {
    let doubled = INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(MAX_BACKOFF).mul_f32(0.5 + fastrand::f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_a_limit_and_has_jitter() {
        for attempt in [1, 2, 5, 30, u32::MAX] {
            let delay = backoff(attempt);
            let middle = INITIAL_BACKOFF
                .saturating_mul(1 << (attempt - 1).min(10))
                .min(MAX_BACKOFF);
            assert!(
                delay >= middle / 2 && delay <= middle * 3 / 2,
                "{attempt}: {delay:?}"
            );
        }
        let delays: Vec<_> = (0..10).map(|_| backoff(3)).collect();
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }
}
