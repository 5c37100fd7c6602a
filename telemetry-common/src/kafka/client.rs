//! What librdkafka reports about its connections, as log events.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, info, warn};

use crate::exception;

/// The time after which the same error is logged again.
const INTERVAL: Duration = Duration::from_mins(1);

/// The context of a Kafka client, which logs what librdkafka reports.
///
/// librdkafka reports an error with each attempt to connect, twice a second, and each of them as a log line
/// and as an error. With this context, each kind of error is logged at most once a minute for the whole
/// process, as the event `telemetry_common.kafka.failed`. The client retries.
///
/// [`Producer`](super::Producer) has this context. Other clients get it by `create_with_context`. A context
/// of your own calls its methods.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLog;

impl ClientLog {
    /// Logs an error with its reason, unless the same kind of error was logged within the last minute.
    pub fn record(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // Another error has the reason.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) || !RECENT.is_due(code, Instant::now()) {
            return;
        }
        exception!(
            warn,
            "telemetry_common.kafka.failed",
            error,
            "Kafka: {reason}"
        );
    }
}

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // They are also reported as errors.
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {}
            RDKafkaLogLevel::Warning => warn!(target: "librdkafka", "{facility} {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                info!(target: "librdkafka", "{facility} {message}");
            }
            RDKafkaLogLevel::Debug => debug!(target: "librdkafka", "{facility} {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.record(&error, reason);
    }
}

/// The kinds of errors that were logged, each with its time. They are few, so a list is enough.
struct Recent(Mutex<Vec<(Option<RDKafkaErrorCode>, Instant)>>);

static RECENT: Recent = Recent(Mutex::new(Vec::new()));

impl Recent {
    /// Returns whether an error is to be logged now. If so, it counts as logged.
    fn is_due(&self, code: Option<RDKafkaErrorCode>, now: Instant) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(_, logged)| now.duration_since(*logged) < INTERVAL);
        let is_due = recent.iter().all(|(known, _)| *known != code);
        if is_due {
            recent.push((code, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_is_due_once_a_minute() {
        let recent = Recent(Mutex::default());
        let (one, other) = (
            Some(RDKafkaErrorCode::Authentication),
            Some(RDKafkaErrorCode::SSL),
        );
        let now = Instant::now();
        assert!(recent.is_due(one, now));
        assert!(!recent.is_due(one, now + INTERVAL / 2));
        assert!(recent.is_due(other, now + INTERVAL / 2));
        assert!(recent.is_due(one, now + INTERVAL));
        assert!(!recent.is_due(one, now + INTERVAL));
    }
}
