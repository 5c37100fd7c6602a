//! The telemetry in memory: the newest of each signal, up to a number and a size.

mod errors;
mod filter;
mod ids;
mod logs;
mod metrics;
mod ring;
mod spans;
mod values;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    },
    trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use errors::Errors;
pub(crate) use filter::{LogFilter, Text, TraceFilter};
pub(crate) use ids::TraceId;
use logs::{Logs, StoredLog};
use metrics::Metrics;
use ring::Limit;
use spans::{Spans, StoredSpan};
use values::Origin;

/// How much is kept. What is older is removed.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// The number of spans.
    pub spans: usize,
    /// The number of log records.
    pub logs: usize,
    /// The number of series of metrics. Points of further ones are rejected, as are very large ones.
    pub series: usize,
    /// The number of error events.
    pub errors: usize,
    /// The number of bytes of encoded spans, and likewise of log records and of error events.
    pub bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            spans: 100_000,
            logs: 100_000,
            series: 5_000,
            errors: 1_000,
            bytes: 96 << 20,
        }
    }
}

/// The telemetry that was received.
#[derive(Debug)]
pub struct Store {
    signals: RwLock<Signals>,
    /// Changes whenever something arrives.
    arrivals: watch::Sender<()>,
}

#[derive(Debug)]
struct Signals {
    spans: Spans,
    logs: Logs,
    metrics: Metrics,
    errors: Errors,
}

impl Store {
    /// Creates an empty store.
    pub fn new(capacity: Capacity) -> Self {
        let limit = |items| Limit {
            items,
            bytes: capacity.bytes,
        };
        Self {
            signals: RwLock::new(Signals {
                spans: Spans::new(limit(capacity.spans)),
                logs: Logs::new(limit(capacity.logs)),
                metrics: Metrics::new(capacity.series),
                errors: Errors::new(limit(capacity.errors)),
            }),
            arrivals: watch::Sender::new(()),
        }
    }

    /// Adds spans. Rejects those without a valid id.
    pub fn add_traces(&self, request: &ExportTraceServiceRequest) -> ExportTraceServiceResponse {
        let mut rejected = 0;
        let mut spans = Vec::new();
        for group in &request.resource_spans {
            for scope in &group.scope_spans {
                let (resource, items) = (group.resource.as_ref(), scope.spans.len());
                let origin = Arc::new(Origin::of(resource, scope.scope.as_ref(), items));
                for span in &scope.spans {
                    match StoredSpan::new(&origin, span) {
                        Some(span) => spans.push(span),
                        None => rejected += 1,
                    }
                }
            }
        }
        self.change(|signals| spans.into_iter().for_each(|span| signals.spans.add(span)));
        ExportTraceServiceResponse {
            partial_success: (rejected > 0).then(|| ExportTracePartialSuccess {
                rejected_spans: rejected,
                error_message: "a trace id must have 16 bytes and a span id 8, not all of them 0"
                    .to_owned(),
            }),
        }
    }

    /// Adds log records.
    pub fn add_logs(&self, request: &ExportLogsServiceRequest) -> ExportLogsServiceResponse {
        let mut logs = Vec::new();
        for group in &request.resource_logs {
            for scope in &group.scope_logs {
                let (resource, items) = (group.resource.as_ref(), scope.log_records.len());
                let origin = Arc::new(Origin::of(resource, scope.scope.as_ref(), items));
                let records = scope.log_records.iter();
                logs.extend(records.map(|log| StoredLog::new(&origin, log)));
            }
        }
        self.change(|signals| logs.into_iter().for_each(|log| signals.logs.add(log)));
        ExportLogsServiceResponse::default()
    }

    /// Adds points of metrics. Rejects those of new series if there are too many, and large ones.
    pub fn add_metrics(
        &self,
        request: &ExportMetricsServiceRequest,
    ) -> ExportMetricsServiceResponse {
        let mut rejected = 0;
        self.change(|signals| {
            for group in &request.resource_metrics {
                for scope in &group.scope_metrics {
                    let (resource, items) = (group.resource.as_ref(), scope.metrics.len());
                    let origin = Origin::of(resource, scope.scope.as_ref(), items);
                    for metric in &scope.metrics {
                        rejected += signals.metrics.add(&origin, metric);
                    }
                }
            }
        });
        ExportMetricsServiceResponse {
            partial_success: (rejected > 0).then(|| ExportMetricsPartialSuccess {
                rejected_data_points: rejected.cast_signed(),
                error_message: "there are too many series, or one is too large".to_owned(),
            }),
        }
    }

    /// Adds an event of Sentry's protocol.
    pub fn add_error(&self, event: Value) {
        self.change(|signals| signals.errors.add(event));
    }

    /// Returns the newest traces that `filter` accepts, as JSON.
    pub(crate) fn traces(&self, filter: &TraceFilter) -> Value {
        json!(self.read().spans.list(filter))
    }

    /// Returns a trace and those that are linked with it, as JSON, with their log records, error events and
    /// exemplars. The traces are empty if there is no span of it.
    pub(crate) fn trace(&self, id: TraceId) -> Value {
        let signals = self.read();
        let trace = |id| {
            let mut trace = signals.spans.trace(id)?;
            trace["logs"] = json!(signals.logs.of_trace(id));
            trace["errors"] = json!(signals.errors.of_trace(id));
            trace["exemplars"] = json!(signals.metrics.exemplars_of(id));
            Some(trace)
        };
        let ids = signals.spans.linked(id);
        json!(ids.into_iter().filter_map(trace).collect::<Vec<_>>())
    }

    /// Returns the newest log records that `filter` accepts, as JSON, newest first.
    pub(crate) fn logs(&self, filter: &LogFilter) -> Value {
        json!(self.read().logs.list(filter))
    }

    /// Returns the series of a service, or of all, whose name contains `text`, as JSON.
    pub(crate) fn metrics(&self, service: Option<&str>, text: &str, limit: usize) -> Value {
        json!(self.read().metrics.list(service, text, limit))
    }

    /// Returns the newest error events, newest first.
    pub(crate) fn errors(&self, limit: usize) -> Value {
        json!(self.read().errors.list(limit))
    }

    /// Returns the names for filters, and how much of each signal there is and was removed, as JSON.
    pub(crate) fn overview(&self) -> Value {
        let signals = self.read();
        let (services, routes) = signals.spans.services_and_routes();
        let counts = |(kept, removed): (usize, u64)| json!({"kept": kept, "removed": removed});
        json!({
            "services": services,
            "routes": routes,
            "spans": counts(signals.spans.counts()),
            "logs": counts(signals.logs.counts()),
            "series": counts(signals.metrics.counts()),
            "errors": counts(signals.errors.counts()),
        })
    }

    /// Returns a receiver that is notified when something arrives.
    pub(crate) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut self.write());
        self.arrivals.send_replace(());
    }

    fn read(&self) -> RwLockReadGuard<'_, Signals> {
        self.signals.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Signals> {
        self.signals.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a number from the list of a key.
fn forget_in<K: Eq + Hash>(lists: &mut HashMap<K, Vec<u64>>, key: &K, number: u64) {
    if let Some(list) = lists.get_mut(key) {
        list.retain(|&other| other != number);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

/// Returns nanoseconds as milliseconds. A time since the Unix epoch is exact to a microsecond.
#[expect(clippy::cast_precision_loss, reason = "a page shows microseconds")]
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
