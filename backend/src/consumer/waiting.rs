//! Messages that failed for a passing reason, each until its time has come.

use std::time::Duration;

use rdkafka::{Message, message::OwnedMessage};
use tokio::time::{Instant, sleep_until};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A message and the number of its next attempt.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) message: OwnedMessage,
    pub(super) attempt: u32,
    due: Instant,
}

impl Delayed {
    /// A message that was never tried.
    pub(super) fn first(message: OwnedMessage) -> Self {
        Self {
            message,
            attempt: 1,
            due: Instant::now(),
        }
    }
}

/// At most one message of each partition: the partition is paused while it waits.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Delayed>);

impl Waiting {
    /// Lets a message wait after its failed attempt.
    pub(super) fn add(&mut self, failed: Delayed) {
        let due = Instant::now() + pause_after(failed.attempt);
        self.0.push(Delayed {
            attempt: failed.attempt + 1,
            due,
            ..failed
        });
    }

    /// Forgets the message of a partition: it was delivered again, and is tried afresh.
    pub(super) fn forget(&mut self, topic: &str, partition: i32) {
        self.0.retain(|delayed| {
            (delayed.message.topic(), delayed.message.partition()) != (topic, partition)
        });
    }

    /// The next message whose time has come; never, while none waits.
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Delayed {
        let Some(next) = (0..self.0.len()).min_by_key(|index| self.0[*index].due) else {
            return std::future::pending().await;
        };
        sleep_until(self.0[next].due).await;
        self.0.swap_remove(next)
    }
}

/// Twice as long after each attempt up to a limit, and scattered by half, so that workers that
/// failed together do not come back together.
fn pause_after(attempt: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(LONGEST_PAUSE).mul_f32(0.5 + fastrand::f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_scattered() {
        for attempt in [1, 2, 5, 30, u32::MAX] {
            let pause = pause_after(attempt);
            let middle = FIRST_PAUSE
                .saturating_mul(1 << (attempt - 1).min(10))
                .min(LONGEST_PAUSE);
            assert!(
                pause >= middle / 2 && pause <= middle * 3 / 2,
                "{attempt}: {pause:?}"
            );
        }
        let pauses: Vec<_> = (0..10).map(|_| pause_after(3)).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
