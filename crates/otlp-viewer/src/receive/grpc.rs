//! OTLP over gRPC.

use std::sync::Arc;

use axum::Router;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use tonic::{Request, Response, Status, codec::CompressionEncoding::Gzip, service::Routes};

use super::Receive;

pub(super) fn router<R: Receive>(receiver: &Arc<R>, limit: usize) -> Router {
    let service = || Service(Arc::clone(receiver));
    macro_rules! server {
        ($server:ident) => {
            $server::new(service())
                .accept_compressed(Gzip)
                .max_decoding_message_size(limit)
        };
    }
    Routes::new(server!(TraceServiceServer))
        .add_service(server!(LogsServiceServer))
        .add_service(server!(MetricsServiceServer))
        .into_axum_router()
        // An unknown path is one of HTTP, with the status 404.
        .reset_fallback()
}

struct Service<R>(Arc<R>);

#[tonic::async_trait]
impl<R: Receive> TraceService for Service<R> {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(self.0.traces(request.into_inner())))
    }
}

#[tonic::async_trait]
impl<R: Receive> LogsService for Service<R> {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        Ok(Response::new(self.0.logs(request.into_inner())))
    }
}

#[tonic::async_trait]
impl<R: Receive> MetricsService for Service<R> {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Ok(Response::new(self.0.metrics(request.into_inner())))
    }
}
