//! Tests of what is received: each encoding of OTLP, and metrics.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::trace::v1::trace_service_client::TraceServiceClient,
    metrics::v1::{Exemplar, Histogram, HistogramDataPoint, metric::Data},
};
use otlp_viewer::Capacity;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::json;
use tonic::codec::CompressionEncoding;

use crate::helpers::{PROTOBUF, log, logs, metrics, span, start, start_with, traces};

#[tokio::test]
async fn spans_arrive_as_protobuf_as_json_and_over_grpc_compressed_or_not() {
    let viewer = start().await;
    viewer.spans("bookapp", &[span(1, 1, "protobuf")]).await;

    let body = traces("bookapp", &[span(2, 1, "compressed")]).encode_to_vec();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&body).unwrap();
    let request = viewer
        .http
        .post(format!("{}/v1/traces", viewer.viewer.url()));
    let request = request
        .header(CONTENT_TYPE, PROTOBUF)
        .header(CONTENT_ENCODING, "gzip");
    let response = request.body(gzip.finish().unwrap()).send().await.unwrap();
    assert_eq!(response.status(), 200);

    // As an SDK of JavaScript sends it: ids are hex digits, and large integers strings.
    let json = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "page"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": "03".repeat(16), "spanId": "01".repeat(8), "name": "json",
            "startTimeUnixNano": "1795996800000000000", "endTimeUnixNano": "1795996800002000000",
            "attributes": [{"key": "size", "value": {"intValue": "9007199254740993"}}],
        }]}],
    }]});
    let response = viewer
        .post(
            "/v1/traces",
            "application/json; charset=utf-8",
            json.to_string(),
        )
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let trace = viewer.data(&format!("traces/{}", "03".repeat(16))).await;
    let span_of_page = &trace[0]["spans"][0];
    assert_eq!(span_of_page["service"], "page");
    assert_eq!(span_of_page["duration_ms"], 2.0);
    assert_eq!(
        span_of_page["attributes"]["size"], "9007199254740993",
        "not rounded"
    );

    let client = TraceServiceClient::connect(viewer.viewer.url())
        .await
        .unwrap();
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    client
        .export(traces("bookapp", &[span(4, 1, "grpc")]))
        .await
        .unwrap();
    assert_eq!(
        viewer.names("").await,
        ["compressed", "grpc", "json", "protobuf"]
    );
}

#[tokio::test]
async fn spans_without_valid_ids_are_rejected_and_counted() {
    let viewer = start().await;
    let mut short = span(1, 1, "short");
    short.span_id.pop();
    let spans = [short, span(0, 1, "zero"), span(2, 1, "valid")];
    let client = TraceServiceClient::connect(viewer.viewer.url()).await;
    let response = client
        .unwrap()
        .export(traces("bookapp", &spans))
        .await
        .unwrap();
    let partial = response.into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    assert!(partial.error_message.contains("trace id"), "{partial:?}");
    assert_eq!(viewer.names("").await, ["valid"]);
}

#[tokio::test]
async fn a_metric_has_its_newest_points_and_the_traces_of_its_exemplars() {
    let viewer = start().await;
    let mut request = metrics("bookapp", &["http.server.request.duration"]);
    request.resource_metrics[0].scope_metrics[0].metrics[0].data =
        Some(Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                count: 2,
                sum: Some(0.5),
                bucket_counts: vec![1, 1],
                explicit_bounds: vec![0.1],
                exemplars: vec![Exemplar {
                    trace_id: vec![1; 16],
                    span_id: vec![1; 8],
                    value: Some(
                        opentelemetry_proto::tonic::metrics::v1::exemplar::Value::AsDouble(0.4),
                    ),
                    ..Exemplar::default()
                }],
                ..HistogramDataPoint::default()
            }],
            ..Histogram::default()
        }));
    for _ in 0..300 {
        viewer
            .post("/v1/metrics", PROTOBUF, request.encode_to_vec())
            .await;
    }
    let series = viewer.data("metrics?text=request.duration").await;
    let series = &series[0];
    assert_eq!(series["instrument"], "histogram");
    assert_eq!(series["points"].as_array().unwrap().len(), 240);
    assert_eq!(series["points"][0]["buckets"], json!([1, 1]));
    assert_eq!(series["bounds"], json!([0.1]));
    assert_eq!(
        series["exemplars"].as_array().unwrap().len(),
        1,
        "each once"
    );
    viewer.spans("bookapp", &[span(1, 1, "GET /books")]).await;
    let trace = viewer.data(&format!("traces/{}", "01".repeat(16))).await;
    assert_eq!(
        trace[0]["exemplars"][0]["metric"],
        "http.server.request.duration"
    );
}

#[tokio::test]
async fn points_of_too_many_series_are_rejected_and_counted() {
    let capacity = Capacity {
        series: 2,
        ..Capacity::default()
    };
    let viewer = start_with(capacity).await;
    let first = viewer
        .viewer
        .store()
        .add_metrics(&metrics("bookapp", &["a", "b", "c"]));
    assert_eq!(first.partial_success.unwrap().rejected_data_points, 1);
    let again = viewer
        .viewer
        .store()
        .add_metrics(&metrics("bookapp", &["a", "b"]));
    assert_eq!(again.partial_success, None);
    let overview = viewer.data("overview").await;
    assert_eq!(overview["series"], json!({"kept": 2, "removed": 1}));
}

#[tokio::test]
async fn large_items_are_removed_before_there_are_many() {
    let capacity = Capacity {
        bytes: 10_000,
        ..Capacity::default()
    };
    let viewer = start_with(capacity).await;
    let large = "x".repeat(4_000);
    for number in 1..=5 {
        viewer.spans("bookapp", &[span(number, 1, &large)]).await;
        let mut record = log(number, 9, &large);
        record.event_name = large.clone();
        let body = logs("bookapp", &[record]).encode_to_vec();
        viewer.post("/v1/logs", PROTOBUF, body).await;
        viewer.viewer.store().add_error(json!({"message": large}));
    }
    let overview = viewer.data("overview").await;
    assert_eq!(overview["spans"], json!({"kept": 2, "removed": 3}));
    assert_eq!(overview["logs"], json!({"kept": 1, "removed": 4}));
    assert_eq!(overview["errors"], json!({"kept": 2, "removed": 3}));
    // A resource counts, too.
    let service = "y".repeat(9_000);
    let pair = [span(6, 1, "a"), span(6, 2, "b")];
    viewer.spans(&service, &pair).await;
    viewer.spans(&service, &[span(7, 1, "c")]).await;
    let overview = viewer.data("overview").await;
    assert_eq!(overview["spans"], json!({"kept": 1, "removed": 7}));
}

#[tokio::test]
async fn points_of_too_large_series_are_rejected_and_counted() {
    let viewer = start().await;
    let store = viewer.viewer.store();
    let long = "x".repeat(20_000);
    let long = store.add_metrics(&metrics("bookapp", &[&long, "short"]));
    assert_eq!(long.partial_success.unwrap().rejected_data_points, 1);
    let mut wide = metrics("bookapp", &["wide"]);
    wide.resource_metrics[0].scope_metrics[0].metrics[0].data = Some(Data::Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            bucket_counts: vec![1; 1_000],
            ..HistogramDataPoint::default()
        }],
        ..Histogram::default()
    }));
    let wide = store.add_metrics(&wide);
    assert_eq!(wide.partial_success.unwrap().rejected_data_points, 1);
    let overview = viewer.data("overview").await;
    assert_eq!(overview["series"], json!({"kept": 1, "removed": 2}));
}
