//! Starts a viewer for one test, and creates telemetry.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
        number_data_point::Value as Number,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Link, status::StatusCode},
};
use otlp_viewer::{Capacity, Viewer};
use prost::Message;
use reqwest::{Client, Response, header::CONTENT_TYPE};
use serde_json::Value;

pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// The start of all spans, in nanoseconds since the Unix epoch: 2026-11-30.
const START: u64 = 1_795_996_800_000_000_000;

pub(crate) struct TestViewer {
    pub(crate) viewer: Viewer,
    pub(crate) http: Client,
}

pub(crate) async fn start() -> TestViewer {
    start_with(Capacity::default()).await
}

pub(crate) async fn start_with(capacity: Capacity) -> TestViewer {
    let address = "127.0.0.1:0".parse().unwrap();
    TestViewer {
        viewer: Viewer::start(&[address], capacity).await.unwrap(),
        http: Client::builder().build().unwrap(),
    }
}

impl TestViewer {
    /// Returns what the page would get.
    pub(crate) async fn data(&self, path: &str) -> Value {
        let url = format!("{}/data/{path}", self.viewer.url());
        let response = self.http.get(url).send().await.unwrap();
        response.error_for_status().unwrap().json().await.unwrap()
    }

    /// Returns the names of the traces that a query selects, in alphabetical order.
    pub(crate) async fn names(&self, query: &str) -> Vec<String> {
        let traces = self.data(&format!("traces?{query}")).await;
        let traces = traces.as_array().unwrap().iter();
        let mut names: Vec<_> = traces
            .map(|trace| trace["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> Response {
        let request = self.http.post(format!("{}{path}", self.viewer.url()));
        let request = request.header(CONTENT_TYPE, kind).body(body.into());
        request.send().await.unwrap()
    }

    /// Sends spans of one service.
    pub(crate) async fn spans(&self, service: &str, spans: &[Span]) {
        let body = traces(service, spans).encode_to_vec();
        let response = self.post("/v1/traces", PROTOBUF, body).await;
        assert_eq!(response.status(), 200);
    }
}

/// Returns a span of 1 ms. The ids are repeated to their length.
pub(crate) fn span(trace: u8, id: u8, name: &str) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        name: name.to_owned(),
        start_time_unix_nano: START,
        end_time_unix_nano: START + 1_000_000,
        ..Span::default()
    }
}

/// Makes a span fail.
pub(crate) fn failed(span: Span) -> Span {
    let status = Status {
        code: StatusCode::Error.into(),
        message: "no more books".to_owned(),
    };
    Span {
        status: Some(status),
        ..span
    }
}

/// Adds a link to a span.
pub(crate) fn linked(mut span: Span, trace: u8, id: u8) -> Span {
    span.links.push(Link {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        ..Link::default()
    });
    span
}

pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn resource(service: &str) -> Resource {
    Resource {
        attributes: vec![attribute("service.name", service)],
        ..Resource::default()
    }
}

pub(crate) fn traces(service: &str, spans: &[Span]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(service)),
            scope_spans: vec![ScopeSpans {
                spans: spans.to_vec(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

pub(crate) fn logs(service: &str, records: &[LogRecord]) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(service)),
            scope_logs: vec![ScopeLogs {
                log_records: records.to_vec(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

/// Returns a log record of a trace.
pub(crate) fn log(trace: u8, severity: i32, body: &str) -> LogRecord {
    LogRecord {
        trace_id: vec![trace; 16],
        severity_number: severity,
        time_unix_nano: START,
        body: attribute("", body).value,
        ..LogRecord::default()
    }
}

/// Returns gauges with these names.
pub(crate) fn metrics(service: &str, names: &[&str]) -> ExportMetricsServiceRequest {
    let metric = |name: &&str| Metric {
        name: (*name).to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint {
                time_unix_nano: START,
                value: Some(Number::AsInt(7)),
                ..NumberDataPoint::default()
            }],
        })),
        ..Metric::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(service)),
            scope_metrics: vec![ScopeMetrics {
                metrics: names.iter().map(metric).collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}
