//! The log records, by trace.

use std::{collections::HashMap, sync::Arc};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use serde_json::{Value, json};

use super::{
    filter::LogFilter,
    forget_in,
    ids::{SpanId, TraceId},
    milliseconds,
    ring::{Limit, Ring},
    values::{Origin, attributes, readable},
};

/// A log record. What only an opened record shows stays encoded.
#[derive(Debug)]
pub(super) struct StoredLog {
    trace: Option<TraceId>,
    origin: Arc<Origin>,
    severity: i32,
    encoded: Box<[u8]>,
}

impl StoredLog {
    pub(super) fn new(origin: &Arc<Origin>, log: &LogRecord) -> Self {
        Self {
            trace: TraceId::from_bytes(&log.trace_id),
            origin: Arc::clone(origin),
            severity: log.severity_number,
            encoded: log.encode_to_vec().into(),
        }
    }

    fn to_json(&self) -> Value {
        // These bytes were encoded when the record arrived.
        let log = LogRecord::decode(&*self.encoded).unwrap_or_default();
        let time = match log.time_unix_nano {
            0 => log.observed_time_unix_nano,
            time => time,
        };
        json!({
            "time_ms": milliseconds(time),
            "trace_id": self.trace,
            "span_id": SpanId::from_bytes(&log.span_id),
            "service": self.origin.service,
            "scope": self.origin.scope,
            "severity": if log.severity_text.is_empty() { severity(self.severity) } else { &log.severity_text },
            "severity_number": self.severity,
            "event": log.event_name,
            "body": readable(log.body.as_ref()),
            "attributes": attributes(&log.attributes),
        })
    }
}

/// Returns the name of a severity number.
fn severity(number: i32) -> &'static str {
    match number {
        ..1 => "",
        1..5 => "TRACE",
        5..9 => "DEBUG",
        9..13 => "INFO",
        13..17 => "WARN",
        17..21 => "ERROR",
        21.. => "FATAL",
    }
}

/// The newest log records.
#[derive(Debug)]
pub(super) struct Logs {
    ring: Ring<StoredLog>,
    by_trace: HashMap<TraceId, Vec<u64>>,
}

impl Logs {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            ring: Ring::new(limit),
            by_trace: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, log: StoredLog) {
        let trace = log.trace;
        let bytes = log.encoded.len() + log.origin.bytes_each;
        let number = self.ring.push(log, bytes);
        if let Some(trace) = trace {
            self.by_trace.entry(trace).or_default().push(number);
        }
        while let Some((number, removed)) = self.ring.pop_excess() {
            if let Some(trace) = removed.trace {
                forget_in(&mut self.by_trace, &trace, number);
            }
        }
    }

    /// Returns the newest log records that `filter` accepts, newest first.
    pub(super) fn list(&self, filter: &LogFilter) -> Vec<Value> {
        let is_accepted = |log: &&StoredLog| {
            log.severity >= filter.min_severity
                && filter.trace.is_none_or(|trace| log.trace == Some(trace))
                && filter
                    .service
                    .as_ref()
                    .is_none_or(|service| log.origin.service == *service)
                && filter.text.as_ref().is_none_or(|text| {
                    text.is_in(&log.encoded) || log.trace.is_some_and(|trace| text.is_id(trace))
                })
        };
        let logs = self.ring.newest().filter(is_accepted);
        logs.take(filter.limit).map(StoredLog::to_json).collect()
    }

    /// Returns the log records of a trace, in the order of arrival.
    pub(super) fn of_trace(&self, trace: TraceId) -> Vec<Value> {
        let numbers = self.by_trace.get(&trace).into_iter().flatten();
        let logs = numbers.filter_map(|number| self.ring.get(*number));
        logs.map(StoredLog::to_json).collect()
    }

    /// Returns the number of log records, and how many were removed.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.ring.len(), self.ring.removed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_removed_log_records() {
        let origin = Arc::new(Origin::of(None, None, 1));
        let mut logs = Logs::new(Limit {
            items: 3,
            bytes: 1000,
        });
        for number in 1..=100 {
            let log = LogRecord {
                trace_id: vec![number; 16],
                ..LogRecord::default()
            };
            logs.add(StoredLog::new(&origin, &log));
        }
        assert_eq!(logs.counts(), (3, 97));
        assert_eq!(logs.by_trace.len(), 3);
    }
}
