//! The keys whose messages wait because one of them could not be sent. Messages with other keys are
//! sent in the meantime; those with the same key keep their order.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// The delay after the first failure. Each further failure doubles it.
pub(super) const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
/// The maximum delay.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The maximum number of held keys.
const MAX_KEYS: usize = 1000;

/// The held keys, each with its next attempt.
#[derive(Debug, Default)]
pub(super) struct HeldKeys(HashMap<String, Held>);

#[derive(Clone, Copy, Debug)]
struct Held {
    due: Instant,
    backoff: Duration,
}

impl HeldKeys {
    /// Returns the keys whose next attempt is not due.
    pub(super) fn waiting(&self) -> Vec<String> {
        let now = Instant::now();
        let waiting = self.0.iter().filter(|(_, held)| held.due > now);
        waiting.map(|(key, _)| key.clone()).collect()
    }

    /// Holds a key after a failure. Returns `false` if too many keys are held.
    pub(super) fn hold(&mut self, key: &str) -> bool {
        let backoff = match self.0.get(key).copied() {
            Some(held) => MAX_BACKOFF.min(held.backoff * 2),
            None if self.is_full() => return false,
            None => INITIAL_BACKOFF,
        };
        let due = Instant::now() + backoff;
        self.0.insert(key.to_owned(), Held { due, backoff });
        true
    }

    /// Returns whether there are too many keys, without those whose messages are gone: they are long
    /// due, and nothing has failed again.
    fn is_full(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|_, held| now < held.due + MAX_BACKOFF);
        self.0.len() >= MAX_KEYS
    }

    /// Stops holding a key, because its message was sent or quarantined.
    pub(super) fn release(&mut self, key: &str) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_longer_after_each_failure_until_it_is_released() {
        let mut keys = HeldKeys::default();
        for _ in 0..10 {
            assert!(keys.hold("1"));
        }
        assert_eq!(keys.0["1"].backoff, MAX_BACKOFF);
        assert_eq!(keys.waiting(), ["1"]);
        keys.release("1");
        assert!(keys.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_keys_is_limited_and_a_key_without_messages_is_forgotten() {
        let mut keys = HeldKeys::default();
        for key in 0..MAX_KEYS {
            assert!(keys.hold(&key.to_string()));
        }
        assert!(!keys.hold("one more"));
        assert!(keys.hold("0"), "it is held already");
        tokio::time::advance(INITIAL_BACKOFF * 2 + MAX_BACKOFF).await;
        assert!(keys.hold("one more"));
        assert_eq!(keys.0.len(), 1);
    }
}
