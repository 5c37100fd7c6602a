//! The received export requests.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        },
    },
    trace::v1::{ResourceSpans, ScopeSpans},
};
use otlp_viewer::receive::Receive;
use prost::Message;

/// All received export requests, by signal.
#[derive(Default)]
pub(super) struct Received {
    pub(super) traces: Requests<ExportTraceServiceRequest>,
    pub(super) logs: Requests<ExportLogsServiceRequest>,
    pub(super) metrics: Requests<ExportMetricsServiceRequest>,
    /// Whether what arrives is rejected.
    pub(super) rejects: AtomicBool,
    /// Who receives all of it, too.
    copy: OnceLock<Arc<dyn Receive>>,
}

impl Received {
    /// Passes on what was received, and all that is received from now on. A second call has no effect.
    pub(super) fn copy_to(&self, copy: Arc<dyn Receive>) {
        let (traces, logs) = (self.traces.requests(), self.logs.requests());
        let metrics = self.metrics.requests();
        traces
            .iter()
            .for_each(|request| drop(copy.traces(request.clone())));
        logs.iter()
            .for_each(|request| drop(copy.logs(request.clone())));
        metrics
            .iter()
            .for_each(|request| drop(copy.metrics(request.clone())));
        // While nothing else can be received.
        let _ = self.copy.set(copy);
    }

    /// Forgets what was received.
    pub(super) fn clear(&self) {
        self.traces.truncate_to_newest(0);
        self.logs.truncate_to_newest(0);
        self.metrics.truncate_to_newest(0);
    }

    fn is_rejecting(&self) -> bool {
        self.rejects.load(Ordering::Relaxed)
    }
}

impl Receive for Received {
    /// Keeps the spans, or rejects all of them in a response of partial success.
    fn traces(&self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse {
        if !self.is_rejecting() {
            self.traces.push(request, |request| {
                self.copy.get().map(|copy| copy.traces(request.clone()));
            });
            return ExportTraceServiceResponse::default();
        }
        let scopes = request.resource_spans.iter().flat_map(|it| &it.scope_spans);
        let rejected = scopes.map(|scope| count(&scope.spans)).sum();
        ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: rejected,
                error_message: REJECTED.to_owned(),
            }),
        }
    }

    /// As [`traces`](Self::traces), for log records.
    fn logs(&self, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse {
        if !self.is_rejecting() {
            self.logs.push(request, |request| {
                self.copy.get().map(|copy| copy.logs(request.clone()));
            });
            return ExportLogsServiceResponse::default();
        }
        let scopes = request.resource_logs.iter().flat_map(|it| &it.scope_logs);
        let rejected = scopes.map(|scope| count(&scope.log_records)).sum();
        ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: REJECTED.to_owned(),
            }),
        }
    }

    /// As [`traces`](Self::traces), for metrics. It rejects one data point, which is enough.
    fn metrics(&self, request: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse {
        let partial_success = self.is_rejecting().then(|| ExportMetricsPartialSuccess {
            rejected_data_points: 1,
            error_message: REJECTED.to_owned(),
        });
        self.metrics.push(request, |request| {
            self.copy.get().map(|copy| copy.metrics(request.clone()));
        });
        ExportMetricsServiceResponse { partial_success }
    }
}

impl Received {
    /// Returns the spans of one trace, grouped by resource and scope.
    pub(super) fn trace(&self, id: &str) -> ExportTraceServiceRequest {
        let id = hex::decode(id).unwrap_or_default();
        let of_scope = |scope: &ScopeSpans| {
            let spans = scope.spans.iter().filter(|span| span.trace_id == id);
            let spans: Vec<_> = spans.cloned().collect();
            (!spans.is_empty()).then(|| ScopeSpans {
                scope: scope.scope.clone(),
                spans,
                schema_url: scope.schema_url.clone(),
            })
        };
        let of_group = |group: &ResourceSpans| {
            let scope_spans: Vec<_> = group.scope_spans.iter().filter_map(of_scope).collect();
            (!scope_spans.is_empty()).then(|| ResourceSpans {
                resource: group.resource.clone(),
                scope_spans,
                schema_url: group.schema_url.clone(),
            })
        };
        let requests = self.traces.requests();
        let groups = requests.iter().flat_map(|request| &request.resource_spans);
        ExportTraceServiceRequest {
            resource_spans: groups.filter_map(of_group).collect(),
        }
    }
}

fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}

const REJECTED: &str = "this sink rejects";

/// The export requests of one signal, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Requests<T>(Mutex<VecDeque<T>>);

impl<T: Message> Requests<T> {
    fn push(&self, request: T, copy: impl FnOnce(&T)) {
        let mut requests = self.requests();
        copy(&request);
        requests.push_back(request);
    }

    /// Removes the oldest requests until at most `limit` are left. Returns the number of the remaining
    /// requests.
    pub(super) fn truncate_to_newest(&self, limit: usize) -> usize {
        let mut requests = self.requests();
        let excess = requests.len().saturating_sub(limit);
        requests.drain(..excess);
        requests.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.requests().iter().map(Message::encoded_len).sum()
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
