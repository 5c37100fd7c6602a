//! Tests of the environment variables that docs/configuration.md describes.

use demo::tour::Tour;
use reqwest::Method;
use testbed::{
    System, eventually,
    process::{Process, Signal, Spec},
    sink::Sink,
    system::{Service, http},
    trace::Trace,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
};

use crate::helpers::{self, SOON};

// proves: T8
#[tokio::test]
async fn a_signal_s_own_endpoint_wins() {
    let traces = Sink::start().await.unwrap();
    let endpoint = format!("{}/v1/traces", traces.endpoint());
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str())
    })
    .await;
    get(&system).await;
    wait_for_spans(&traces).await;
    assert!(system.sink.spans().is_empty());
    assert!(!system.sink.logs().is_empty());
}

// proves: L33 L35
#[tokio::test]
async fn headers_and_compression_are_sent_as_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str())
            .env(
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "x-tracing-service-header=a%20token",
            )
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    })
    .await;
    get(&system).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut head = Vec::new();
    // The head ends at an empty line. The body is not text.
    while let Some(line) = lines.next_line().await.unwrap()
        && !line.is_empty()
    {
        head.push(line.to_lowercase());
    }
    assert_eq!(head[0], "post /v1/traces http/1.1");
    for line in [
        "x-tracing-service-header: a token",
        "content-encoding: gzip",
    ] {
        assert!(head.iter().any(|sent| sent == line), "{head:?}");
    }
}

// proves: L33 L35
#[tokio::test]
async fn a_collector_behind_tls_is_trusted_by_its_authority_alone() {
    let (sink, authority) = Sink::start_tls().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let file = file.to_str().unwrap();
    for protocol in ["http/protobuf", "grpc"] {
        let before = sink.spans().len();
        let with_endpoint = |spec: Spec| {
            spec.env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint())
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        };
        let distrusting = helpers::start_with(with_endpoint).await;
        get(&distrusting).await;
        stop(&distrusting.bookapp).await;
        assert_eq!(sink.spans().len(), before, "{protocol}: not trusted");
        let with_authority = |spec| with_endpoint(spec).env("OTEL_EXPORTER_OTLP_CERTIFICATE", file);
        let trusting = helpers::start_with(with_authority).await;
        get(&trusting).await;
        let arrived = || async {
            let all = sink.spans().len() > before && !sink.logs().is_empty();
            (all && !sink.points().is_empty()).then_some(())
        };
        let output = || trusting.bookapp.process.lines().join("\n");
        let arrived = eventually(SOON, protocol, arrived).await;
        arrived.unwrap_or_else(|error| panic!("{error}:\n{}", output()));
    }
}

#[tokio::test]
async fn the_sdk_s_own_variables_reach_it() {
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
            .env("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")
            .env(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.namespace=library,host.name=books-1",
            )
    })
    .await;
    get(&system).await;
    wait_for_spans(&system.sink).await;
    stop(&system.bookapp).await;
    for span in system.sink.spans() {
        assert!(span.attributes.len() <= 3, "{span:?}");
        assert_eq!(span.resource["service.namespace"], "library");
        assert_eq!(span.resource["host.name"], "books-1");
    }
    let points = system.sink.points();
    let mut counters = points.iter().filter(|point| point.instrument == "counter");
    assert!(counters.clone().count() > 10 && counters.all(|point| point.is_delta));
}

// proves: T9 T10
#[tokio::test]
async fn the_console_exporter_prints_complete_spans_immediately() {
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_TRACES_EXPORTER", "console")
            .env("TRACES_PROCESSOR", "simple")
    })
    .await;
    get(&system).await;
    let printed = || async {
        let lines = system.bookapp.process.lines().join("\n");
        let parts = [
            "TraceId",
            "SpanId",
            "ParentSpanId",
            "Kind",
            "GET /books/{id}",
        ];
        parts
            .iter()
            .all(|part| lines.replace(' ', "").contains(&part.replace(' ', "")))
            .then_some(())
    };
    eventually(SOON, "the span on stdout", printed)
        .await
        .unwrap();
    assert!(system.sink.spans().is_empty());
}

// proves: T10
#[tokio::test]
async fn the_sampler_can_be_chosen_and_unsampled_requests_are_still_logged() {
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_TRACES_SAMPLER", "traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", "0")
    })
    .await;
    get(&system).await;
    let recorded = || async {
        let logs = system.sink.logs();
        let points = system.sink.points();
        let counted = points
            .iter()
            .any(|point| point.name == "http.server.request.duration");
        // The span of the request, and that of the statement inside.
        let started = ["none", "local"].iter().all(|origin| {
            points.iter().any(|point| {
                point.name == "otel.sdk.span.started"
                    && point.attributes["otel.span.sampling_result"] == "DROP"
                    && point.attributes["otel.span.parent.origin"] == *origin
            })
        });
        (counted && started && logs.iter().any(|log| log.body.starts_with("GET /books/")))
            .then_some(())
    };
    eventually(SOON, "the log record and the metrics", recorded)
        .await
        .unwrap();
    assert!(system.sink.spans().is_empty());
}

#[tokio::test]
async fn each_signal_can_be_switched_off_and_all_together() {
    let off = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
    ];
    for (name, value) in off.into_iter().chain([("OTEL_SDK_DISABLED", "true")]) {
        let system = helpers::start_with(|spec| spec.env(name, value)).await;
        get(&system).await;
        for service in [&system.bookapp, &system.backend] {
            stop(service).await;
        }
        let received = [
            !system.sink.spans().is_empty(),
            !system.sink.points().is_empty(),
            !system.sink.logs().is_empty(),
        ];
        let expected = [0, 1, 2].map(|signal| name != "OTEL_SDK_DISABLED" && name != off[signal].0);
        assert_eq!(received, expected, "{name}");
    }
}

// proves: T5 T6
#[tokio::test]
async fn another_format_continues_the_caller_s_trace_through_both_services() {
    let system = helpers::start_with(|spec| spec.env("OTEL_PROPAGATORS", "jaeger,baggage")).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let url = format!("{}/books?limit=5", system.bookapp.url);
    let caller = format!("{trace}:b7ad6b7169203331:0:1");
    let request = http().unwrap().get(url).header("uber-trace-id", caller);
    request.send().await.unwrap().error_for_status().unwrap();
    for service in ["bookapp", "backend"] {
        let continued = || async {
            let spans = system.sink.spans();
            let mut spans = spans.iter().filter(|span| span.service() == service);
            spans
                .any(|span| span.kind == "SERVER" && span.trace_id == trace)
                .then_some(())
        };
        eventually(SOON, service, continued).await.unwrap();
    }
    helpers::assert_declared(&system);
}

#[tokio::test]
async fn the_known_http_methods_can_be_chosen() {
    let system = helpers::start_with(|spec| {
        spec.env("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "POST, BREW")
    })
    .await;
    let url = format!("{}/books/1", system.bookapp.url);
    for (sent, recorded) in [("BREW", "BREW"), ("GET", "_OTHER")] {
        let method = Method::from_bytes(sent.as_bytes()).unwrap();
        let request = http().unwrap().request(method, &url);
        let response = request.send().await.unwrap();
        let id = response.headers()["traceparent"].to_str().unwrap();
        let id = id.split('-').nth(1).unwrap();
        let server = || async {
            let trace = Trace::of(&system.sink.spans(), id);
            let mut spans = trace.spans().iter();
            spans.find(|span| span.kind == "SERVER").cloned()
        };
        let span = eventually(SOON, "the server span", server).await.unwrap();
        assert_eq!(span.attributes["http.request.method"], recorded, "{sent}");
    }
}

#[tokio::test]
async fn long_attribute_values_are_truncated() {
    let system =
        helpers::start_with(|spec| spec.env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "8")).await;
    Tour::take(&system, "Kindred", "Octavia E. Butler")
        .await
        .unwrap();
    let values = system
        .sink
        .spans()
        .into_iter()
        .flat_map(|span| span.attributes);
    let values: Vec<_> = values
        .filter_map(|(_, value)| Some(value.as_str()?.to_owned()))
        .collect();
    assert!(values.iter().any(|value| value.len() == 8));
    assert!(
        values.iter().all(|value| value.chars().count() <= 8),
        "{values:?}"
    );
}

#[tokio::test]
async fn a_wrong_setting_is_one_line_and_an_unread_one_is_logged() {
    for (name, value, expected) in [
        ("LOG_FORMAT", "xml", "not one of text, json"),
        ("TRACES_PROCESSOR", "simple", "OTEL_TRACES_EXPORTER=console"),
        ("TRACES_FILTER", "bookapp=loud", "TRACES_FILTER"),
        ("RUST_LOG", "a=b=c", "RUST_LOG"),
    ] {
        let spec = Spec::new("bookapp", helpers::binaries().await.bookapp()).env(name, value);
        let process = Process::start(&spec).unwrap();
        assert_eq!(process.wait(SOON).await.unwrap().code(), Some(2), "{name}");
        let [line] = &process.lines()[..] else {
            panic!("expected one line: {:?}", process.lines())
        };
        assert!(
            line.starts_with("error: ") && line.contains(expected),
            "{line}"
        );
    }
    let system = helpers::start_with(|spec| spec.env("OTEL_LOG_LEVEL", "debug")).await;
    let lines = system.bookapp.process.lines();
    let logged = lines
        .iter()
        .filter(|line| line.contains("ignored OTEL_LOG_LEVEL: it is not supported"));
    assert_eq!(logged.count(), 1, "{lines:?}");
}

// proves: L34
#[tokio::test]
async fn exporting_makes_no_telemetry_at_any_level() {
    for protocol in ["http/protobuf", "grpc"] {
        let system = helpers::start_with(|spec| {
            spec.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
                .env("TRACES_FILTER", "trace")
                .env("LOGS_FILTER", "trace")
                .env("RUST_LOG", "trace")
        })
        .await;
        get(&system).await;
        wait_for_spans(&system.sink).await;
        for service in [&system.bookapp, &system.backend] {
            stop(service).await;
        }
        // Only the exporters use these crates. hyper also serves the API.
        let exporters = ["opentelemetry-otlp", "ureq", "h2", "tonic", "tower"];
        let logs = system.sink.logs();
        let own = logs.iter().find(|log| {
            exporters
                .iter()
                .any(|name| log.scope.name.starts_with(name))
        });
        assert_eq!(own, None, "{protocol}");
        // The relay and the consumer create no spans when they poll: the only root span is the
        // request's.
        let spans = system.sink.spans();
        let mut roots = spans.iter().filter(|span| span.parent_id.is_none());
        let root = roots.next().unwrap();
        assert_eq!(
            (&*root.name, roots.next()),
            ("GET /books/{id}", None),
            "{protocol}"
        );
    }
}

async fn get(system: &System) {
    let url = format!("{}/books/1", system.bookapp.url);
    let response = http().unwrap().get(url).send().await.unwrap();
    response.error_for_status().unwrap();
}

async fn wait_for_spans(sink: &Sink) {
    let arrived = || async { (!sink.spans().is_empty()).then_some(()) };
    eventually(SOON, "spans", arrived).await.unwrap();
}

async fn stop(service: &Service) {
    service.process.signal(Signal::SIGTERM);
    assert!(service.process.wait(SOON).await.unwrap().success());
}
