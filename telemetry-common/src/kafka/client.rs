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
        let kind = kind(error.rdkafka_error_code(), reason);
        // Another error has the reason.
        if kind == Some(RDKafkaErrorCode::AllBrokersDown) || !RECENT.is_due(kind, Instant::now()) {
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

/// Returns the kind of an error.
///
/// librdkafka reports a failed TLS handshake as `SSL`. If the broker answers so fast that the first call of
/// OpenSSL already has the failure, it reports the same as `BrokerTransportFailure`. The reason comes from
/// OpenSSL in both cases.
fn kind(code: Option<RDKafkaErrorCode>, reason: &str) -> Option<RDKafkaErrorCode> {
    if code == Some(RDKafkaErrorCode::BrokerTransportFailure) && reason.contains("SSL routines:") {
        return Some(RDKafkaErrorCode::SSL);
    }
    code
}

/// The kinds of errors that were logged, each with its time. They are few, so a list is enough.
struct Recent(Mutex<Vec<(Option<RDKafkaErrorCode>, Instant)>>);

static RECENT: Recent = Recent(Mutex::new(Vec::new()));

impl Recent {
    /// Returns whether an error is to be logged now. If so, it counts as logged.
    fn is_due(&self, kind: Option<RDKafkaErrorCode>, now: Instant) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(_, logged)| now.duration_since(*logged) < INTERVAL);
        let is_due = recent.iter().all(|(known, _)| *known != kind);
        if is_due {
            recent.push((kind, now));
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

    #[test]
    fn a_failed_handshake_is_one_kind_whenever_openssl_notices_it() {
        let transport = Some(RDKafkaErrorCode::BrokerTransportFailure);
        let during_connect = "sasl_ssl://127.0.0.1:9093/bootstrap: error:0A000086:SSL \
            routines::certificate verify failed (after 2ms in state SSL_HANDSHAKE)";
        let later = "sasl_ssl://127.0.0.1:9093/bootstrap: SSL handshake failed: error:0A000086:SSL \
            routines::certificate verify failed (after 10ms in state SSL_HANDSHAKE)";
        let ssl = Some(RDKafkaErrorCode::SSL);
        assert_eq!(kind(transport, during_connect), ssl);
        assert_eq!(kind(ssl, later), ssl);
        assert_eq!(
            kind(transport, "Connect failed: Connection refused"),
            transport
        );
    }
}
