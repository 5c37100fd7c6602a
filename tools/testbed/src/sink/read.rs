//! Converts nested OTLP messages into flat values that a test can compare.

use hex::encode;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    logs::v1::ScopeLogs,
    metrics::v1::{
        AggregationTemporality, HistogramDataPoint, NumberDataPoint, ScopeMetrics, metric::Data,
        number_data_point::Value as Number,
    },
    resource::v1::Resource,
    trace::v1::{ScopeSpans, span::SpanKind, status::StatusCode},
};
use serde_json::{Value, json};

use super::{Attributes, Log, Point, Scope, Span};
use crate::number::to_f64;

pub(super) fn spans(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in &request.resource_spans {
        let resource = resource(group.resource.as_ref());
        let spans_of = |scope: &'_ ScopeSpans| {
            let made_by = self::scope(scope.scope.as_ref(), &scope.schema_url);
            let spans = scope.spans.clone().into_iter();
            spans.map(move |span| (made_by.clone(), span))
        };
        for (scope, span) in group.scope_spans.iter().flat_map(spans_of) {
            spans.push(Span {
                scope,
                resource: resource.clone(),
                trace_id: encode(&span.trace_id),
                span_id: encode(&span.span_id),
                parent_id: Some(encode(&span.parent_span_id)).filter(|id| !id.is_empty()),
                name: span.name.clone(),
                kind: match span.kind() {
                    SpanKind::Unspecified => "UNSPECIFIED",
                    SpanKind::Internal => "INTERNAL",
                    SpanKind::Server => "SERVER",
                    SpanKind::Client => "CLIENT",
                    SpanKind::Producer => "PRODUCER",
                    SpanKind::Consumer => "CONSUMER",
                },
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                attributes: attributes(&span.attributes),
                trace_state: span.trace_state.clone(),
                links: span
                    .links
                    .iter()
                    .map(|link| (encode(&link.trace_id), encode(&link.span_id)))
                    .collect(),
                status: match span.status.clone().unwrap_or_default().code() {
                    StatusCode::Unset => "UNSET",
                    StatusCode::Ok => "OK",
                    StatusCode::Error => "ERROR",
                },
            });
        }
    }
    spans
}

fn scope(scope: Option<&InstrumentationScope>, schema_url: &str) -> Scope {
    Scope {
        name: scope.map(|scope| scope.name.clone()).unwrap_or_default(),
        version: scope.map(|scope| scope.version.clone()).unwrap_or_default(),
        schema_url: schema_url.to_owned(),
    }
}

pub(super) fn logs(request: &ExportLogsServiceRequest) -> Vec<Log> {
    let mut logs = Vec::new();
    for group in &request.resource_logs {
        let resource = resource(group.resource.as_ref());
        let logs_of = |scope: &'_ ScopeLogs| {
            let made_by = self::scope(scope.scope.as_ref(), &scope.schema_url);
            let records = scope.log_records.clone().into_iter();
            records.map(move |record| (made_by.clone(), record))
        };
        for (scope, log) in group.scope_logs.iter().flat_map(logs_of) {
            logs.push(Log {
                scope,
                event: log.event_name.clone(),
                resource: resource.clone(),
                trace_id: encode(&log.trace_id),
                span_id: encode(&log.span_id),
                severity: log.severity_text.clone(),
                body: match value(log.body.as_ref()) {
                    Value::String(text) => text,
                    other => other.to_string(),
                },
                attributes: attributes(&log.attributes),
                time: log.time_unix_nano.max(log.observed_time_unix_nano),
            });
        }
    }
    logs
}

pub(super) fn points(request: &ExportMetricsServiceRequest) -> Vec<Point> {
    let mut points = Vec::new();
    for group in &request.resource_metrics {
        let resource = resource(group.resource.as_ref());
        let metrics_of = |scope: &'_ ScopeMetrics| {
            let made_by = self::scope(scope.scope.as_ref(), &scope.schema_url);
            let metrics = scope.metrics.clone().into_iter();
            metrics.map(move |metric| (made_by.clone(), metric))
        };
        for (scope, metric) in group.scope_metrics.iter().flat_map(metrics_of) {
            let point = |instrument, temporality, labels: &[KeyValue], value| Point {
                resource: resource.clone(),
                scope: scope.clone(),
                name: metric.name.clone(),
                unit: metric.unit.clone(),
                instrument,
                is_delta: temporality == i32::from(AggregationTemporality::Delta),
                attributes: attributes(labels),
                value,
                bounds: Vec::new(),
                sum: 0.0,
                buckets: Vec::new(),
            };
            match &metric.data {
                Some(Data::Sum(sum)) => {
                    let instrument = if sum.is_monotonic {
                        "counter"
                    } else {
                        "updowncounter"
                    };
                    let temporality = sum.aggregation_temporality;
                    let of = |it: &NumberDataPoint| {
                        point(instrument, temporality, &it.attributes, number(it))
                    };
                    points.extend(sum.data_points.iter().map(of));
                }
                Some(Data::Gauge(gauge)) => {
                    let of = |it: &NumberDataPoint| point("gauge", 0, &it.attributes, number(it));
                    points.extend(gauge.data_points.iter().map(of));
                }
                Some(Data::Histogram(histogram)) => {
                    let temporality = histogram.aggregation_temporality;
                    let of = |it: &HistogramDataPoint| Point {
                        bounds: it.explicit_bounds.clone(),
                        sum: it.sum(),
                        buckets: it.bucket_counts.clone(),
                        ..point("histogram", temporality, &it.attributes, to_f64(it.count))
                    };
                    points.extend(histogram.data_points.iter().map(of));
                }
                Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => {}
            }
        }
    }
    points
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(Number::AsDouble(value)) => value,
        Some(Number::AsInt(value)) => to_f64(value.unsigned_abs()).copysign(sign(value)),
        None => 0.0,
    }
}

fn sign(value: i64) -> f64 {
    if value < 0 { -1.0 } else { 1.0 }
}

fn resource(resource: Option<&Resource>) -> Attributes {
    resource
        .map(|resource| attributes(&resource.attributes))
        .unwrap_or_default()
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), value(pair.value.as_ref())))
        .collect()
}

fn value(any: Option<&AnyValue>) -> Value {
    match any.and_then(|any| any.value.as_ref()) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(boolean)) => json!(boolean),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::ArrayValue(array)) => array
            .values
            .iter()
            .map(|element| value(Some(element)))
            .collect(),
        Some(Any::KvlistValue(list)) => json!(attributes(&list.values)),
        Some(Any::BytesValue(bytes)) => json!(encode(bytes)),
        Some(Any::StringValueStrindex(_)) | None => Value::Null,
    }
}
