//! OTLP over gRPC and HTTP, on the same port.
//!
//! A body is protobuf or JSON, compressed with gzip or not, and at most as large as the limit. See
//! <https://opentelemetry.io/docs/specs/otlp/>.

mod grpc;
mod http;

use std::sync::Arc;

use axum::Router;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
};

/// Takes the export requests.
pub trait Receive: Send + Sync + 'static {
    /// Takes spans.
    fn traces(&self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse;
    /// Takes log records.
    fn logs(&self, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse;
    /// Takes metrics.
    fn metrics(&self, request: ExportMetricsServiceRequest) -> ExportMetricsServiceResponse;
}

/// Returns the routes of OTLP. A larger body than `limit`, in bytes after decompression, gets the status 413,
/// or `OUT_OF_RANGE` over gRPC.
pub fn router(receiver: &Arc<impl Receive>, limit: usize) -> Router {
    http::router(Arc::clone(receiver), limit).merge(grpc::router(receiver, limit))
}
