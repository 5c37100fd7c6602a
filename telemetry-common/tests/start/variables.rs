//! Every environment variable, unset, empty, legal and illegal.

use telemetry_common::{Reader, VARIABLES, Variable};
use testbed::sink::Sink;

use crate::{program, run};

/// Returns a legal value that is not the default, and an illegal value if there is one.
fn values(variable: &Variable) -> (&'static str, Option<&'static str>) {
    match variable.name {
        "OTEL_TRACES_SAMPLER" => ("always_on", Some("sometimes")),
        "OTEL_TRACES_SAMPLER_ARG" => ("0.5", Some("half")),
        "OTEL_PROPAGATORS" => ("b3,xray", Some("xray")),
        "OTEL_METRICS_EXPORTER" => ("prometheus", Some("zipkin")),
        "OTEL_TRACES_EXPORTER" | "OTEL_LOGS_EXPORTER" => ("otlp,console", Some("zipkin")),
        "OTEL_RESOURCE_ATTRIBUTES" => ("team=books", Some("team")),
        name if name.ends_with("HEADERS") => ("x-a=b", Some("x-a")),
        name if name.ends_with("ENDPOINT") => ("http://127.0.0.1:9", None),
        name if name.ends_with("PROTOCOL") => ("grpc", Some("carrier pigeon")),
        name if name.ends_with("COMPRESSION") => ("gzip", Some("zip")),
        name if name.ends_with("CERTIFICATE") => ("/dev/null", None),
        name if name.ends_with("_TEMPORALITY_PREFERENCE") => ("delta", Some("eternal")),
        "LOG_FORMAT" => ("json", Some("xml")),
        "LOG_SPAN_FIELDS" => ("console,otlp", Some("paper")),
        "TRACES_PROCESSOR" => ("batch", Some("sometimes")),
        "SENTRY_DSN" => ("http://key@127.0.0.1:9/1", None),
        "GRAFANA_URL" => ("http://127.0.0.1:3000", Some("grafana")),
        _ => match variable.value {
            "BOOL" => ("False", Some("maybe")),
            "N" | "MILLISECONDS" => ("100", Some("many")),
            "FILTER" => ("start=debug", Some("a=b=c")),
            _ => ("value", None),
        },
    }
}

#[tokio::test]
async fn nothing_legal_ends_the_process_and_everything_ignored_is_named() {
    // The tests in `config_file` test the file.
    for variable in VARIABLES.iter().filter(|it| it.name != "OTEL_CONFIG_FILE") {
        let (legal, illegal) = values(variable);
        for name in variable.names() {
            for value in ["", legal].into_iter().chain(illegal) {
                let sink = Sink::start().await.unwrap();
                let spec = program("current_thread")
                    .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint())
                    .env("LOG_FORMAT", "text");
                let value = match (&*name, value) {
                    // An empty endpoint is the one of localhost.
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "") => continue,
                    (_, value) => value,
                };
                let (status, output) = run(&spec.env(&name, value)).await;
                let case = format!("{name}={value}: {output}");
                let is_illegal = Some(value) == illegal;
                if is_illegal && !variable.is_standard() {
                    assert!(!status.success(), "{case}");
                    assert!(output.contains(&*name), "{case}");
                    continue;
                }
                assert!(status.success(), "{case}");
                let expects_warning = match variable.reader {
                    Reader::Nobody => !value.is_empty(),
                    _ => is_illegal || value.contains("xray"),
                };
                let warned = output
                    .lines()
                    .any(|line| line.contains("WARN") && line.contains(&*name));
                assert_eq!(warned, expects_warning, "{case}");
                if value.is_empty() {
                    assert_eq!(sink.spans().len(), 1, "{case}");
                    assert!(
                        !sink.logs().is_empty() && !sink.points().is_empty(),
                        "{case}"
                    );
                }
            }
        }
    }
}
