//! A configuration file has the same effect as the variables that it replaces.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use axum::{Router, http::HeaderMap};
use testbed::sink::{Attributes, Sink};

use tokio::{net::TcpListener, task::JoinSet};

use crate::{program, run};

/// What the program `filtered` exported, without ids, times and values that differ in each run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exported {
    spans: BTreeSet<String>,
    logs: BTreeSet<String>,
    points: BTreeSet<String>,
}

impl Exported {
    fn of(sink: &Sink) -> Self {
        let resource = |resource: &Attributes| {
            let mut resource = resource.clone();
            for varying in [
                "process.creation.time",
                "process.pid",
                "service.instance.id",
            ] {
                assert!(resource.remove(varying).is_some(), "{varying}");
            }
            format!("{resource:?}")
        };
        let spans = sink.spans().into_iter().map(|span| {
            let attributes = &span.attributes;
            format!("{} {attributes:?} {}", span.name, resource(&span.resource))
        });
        let logs = sink.logs().into_iter();
        let logs = logs.map(|log| format!("{} {}", log.body, resource(&log.resource)));
        let points = sink.points().into_iter().map(|point| {
            let (name, delta) = (&point.name, point.is_delta);
            format!(
                "{name} {delta} {:?} {}",
                point.attributes,
                resource(&point.resource)
            )
        });
        Self {
            spans: spans.collect(),
            logs: logs.collect(),
            points: points.collect(),
        }
    }
}

const FILE: &str = r"
file_format: '1.0'
resource:
  attributes_list: team=books
  attributes:
    - {name: service.name, value: shop}
propagator:
  composite: [{b3: }, {baggage: }]
tracer_provider:
  limits: {attribute_value_length_limit: 4}
  sampler:
    parent_based: {root: {trace_id_ratio_based: {ratio: 1.0}}}
  processors:
    - batch:
        exporter:
          otlp_http: {endpoint: '${COLLECTOR}/v1/traces', compression: gzip}
meter_provider:
  readers:
    - periodic:
        exporter:
          otlp_http: {endpoint: '${COLLECTOR}/v1/metrics', temporality_preference: delta}
logger_provider:
  processors:
    - batch:
        schedule_delay: 500
        exporter:
          otlp_grpc: {endpoint: '${COLLECTOR}'}
";

// proves: N35
#[tokio::test]
async fn a_file_and_variables_export_the_same() {
    let (from_file, from_variables) = (Sink::start().await.unwrap(), Sink::start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otel.yaml");
    fs::write(&file, FILE).unwrap();
    let spec = program("configured")
        .env("OTEL_CONFIG_FILE", file.to_str().unwrap())
        .env("COLLECTOR", from_file.endpoint())
        // The file replaces the variables.
        .env("OTEL_SERVICE_NAME", "other")
        .env("OTEL_TRACES_EXPORTER", "none");
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    let spec = program("configured")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", from_variables.endpoint())
        .env("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
        .env("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
        .env("OTEL_SERVICE_NAME", "shop")
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=books")
        .env("OTEL_PROPAGATORS", "b3,baggage")
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "500");
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    let exported = Exported::of(&from_file);
    assert_eq!(exported, Exported::of(&from_variables));
    let only = |items: &BTreeSet<String>, part: &str| items.iter().all(|it| it.contains(part));
    assert!(
        exported.spans.len() == 1 && only(&exported.spans, "abcd\""),
        "{exported:?}"
    );
    assert!(only(&exported.logs, "\"shop\"") && !exported.logs.is_empty());
    assert!(only(&exported.points, "\"books\"") && exported.points.len() > 10);
}

#[tokio::test]
async fn the_headers_of_a_file_replace_those_of_the_environment() {
    let received: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let keep = Arc::clone(&received);
    let collector = Router::new().fallback(async move |headers: HeaderMap| {
        keep.lock().unwrap().push(headers);
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async { axum::serve(listener, collector).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otel.yaml");
    let text = "
file_format: '1.0'
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http: {endpoint: '${COLLECTOR}/v1/traces', headers: [{name: tenant, value: file}]}
";
    fs::write(&file, text).unwrap();
    let spec = program("configured")
        .env("OTEL_CONFIG_FILE", file.to_str().unwrap())
        .env("COLLECTOR", url)
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "tenant=environment,token=secret",
        );
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    let received = received.lock().unwrap();
    let [headers] = &received[..] else {
        panic!("expected one export: {received:?}")
    };
    assert_eq!(headers["tenant"], "file");
    assert!(!headers.contains_key("token"), "{headers:?}");
    assert_eq!(headers["content-type"], "application/x-protobuf");
}

#[tokio::test]
async fn a_view_of_a_file_changes_an_instrument() {
    let sink = Sink::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otel.yaml");
    let text = "
file_format: '1.0'
meter_provider:
  readers: [{periodic: {exporter: {otlp_http: {endpoint: '${COLLECTOR}/v1/metrics'}}}}]
  views:
    - selector: {instrument_name: telemetry_common.panics}
      stream: {name: panics}
    - selector: {instrument_name: process.*}
      stream: {aggregation: {drop: }}
";
    fs::write(&file, text).unwrap();
    let spec = program("configured")
        .env("OTEL_CONFIG_FILE", file.to_str().unwrap())
        .env("COLLECTOR", sink.endpoint());
    let (status, output) = run(&spec).await;
    assert!(status.success(), "{output}");
    let names: BTreeSet<_> = sink.points().into_iter().map(|point| point.name).collect();
    assert!(names.contains("panics"), "{names:?}");
    assert!(
        !names.iter().any(|name| name.starts_with("process.")),
        "{names:?}"
    );
    assert!(sink.spans().is_empty(), "the file has no tracer_provider");
}

#[tokio::test]
async fn a_wrong_file_ends_the_process_and_names_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("otel.yaml");
    fs::write(
        &file,
        "file_format: '1.0'\ntracer_provider: {exporters: []}",
    )
    .unwrap();
    let missing = folder.path().join("missing.yaml");
    for (file, part) in [(file, "exporters"), (missing, "No such file")] {
        let spec = program("configured").env("OTEL_CONFIG_FILE", file.to_str().unwrap());
        let (status, output) = run(&spec).await;
        assert!(!status.success(), "{output}");
        assert!(
            output.contains("OTEL_CONFIG_FILE") && output.contains(part),
            "{output}"
        );
    }
}
