//! The events of Sentry's protocol.

use serde_json::Value;

use super::{
    ids::TraceId,
    ring::{Limit, Ring},
};

/// The newest error events.
#[derive(Debug)]
pub(super) struct Errors(Ring<Value>);

impl Errors {
    pub(super) fn new(limit: Limit) -> Self {
        Self(Ring::new(limit))
    }

    pub(super) fn add(&mut self, event: Value) {
        let bytes = event.to_string().len();
        self.0.push(event, bytes);
        while self.0.pop_excess().is_some() {}
    }

    /// Returns the newest events, newest first.
    pub(super) fn list(&self, limit: usize) -> Vec<&Value> {
        self.0.newest().take(limit).collect()
    }

    /// Returns the events of a trace, newest first.
    pub(super) fn of_trace(&self, trace: TraceId) -> Vec<&Value> {
        let id = trace.to_string();
        let of_trace = |event: &&Value| event["contexts"]["trace"]["trace_id"] == *id;
        self.0.newest().filter(of_trace).collect()
    }

    /// Returns the number of events, and how many were removed.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.0.len(), self.0.removed())
    }
}
