//! The table of all variables.

use tracing_subscriber::{EnvFilter, filter::Targets};

use super::{
    Apply, Reader, Variable,
    parse::{boolean, count, is_push, list, parse, ratio, set},
};
use crate::config::FILE;

/// Declares a variable that this crate applies.
const fn own(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    effect: &'static str,
    apply: Apply,
) -> Variable {
    Variable {
        reader: Reader::Crate(Some(apply)),
        ..sdk(name, value, default, effect)
    }
}

/// Declares a variable that the SDK reads.
const fn sdk(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    effect: &'static str,
) -> Variable {
    Variable {
        name,
        value,
        default,
        effect,
        reader: Reader::Sdk,
    }
}

/// Declares a variable that this crate reads where it is needed.
const fn elsewhere(name: &'static str, value: &'static str, effect: &'static str) -> Variable {
    Variable {
        reader: Reader::Crate(None),
        ..sdk(name, value, "", effect)
    }
}

/// Declares a standard variable that nobody reads.
const fn unsupported(name: &'static str, effect: &'static str) -> Variable {
    Variable {
        reader: Reader::Nobody,
        ..sdk(name, "", "", effect)
    }
}

/// All variables of OpenTelemetry's specification and of this crate.
pub const VARIABLES: &[Variable] = &[
    own(
        "OTEL_SDK_DISABLED",
        "BOOL",
        "false",
        "Disables the export of traces, metrics and log records. Console logs continue",
        |config, value| set(&mut config.sdk_disabled, boolean(value)),
    ),
    own(
        "OTEL_SERVICE_NAME",
        "NAME",
        "",
        "The resource attribute `service.name` (without it, the name of the package)",
        |config, value| set(&mut config.service_name, Ok(Some(value.to_owned()))),
    ),
    sdk(
        "OTEL_RESOURCE_ATTRIBUTES",
        "LIST",
        "",
        "Resource attributes as `key=value` pairs, percent-encoded. They override detected attributes",
    ),
    own(
        "OTEL_TRACES_EXPORTER",
        "LIST",
        "otlp",
        "The exporters of spans: `otlp`, `console` (complete spans on stdout) or `none`",
        |config, value| list(&mut config.traces_exporters, value, is_push),
    ),
    own(
        "OTEL_METRICS_EXPORTER",
        "LIST",
        "otlp",
        "The exporters of metrics: `otlp`, `console`, `prometheus` or `none`",
        |config, value| {
            let accepts = |exporter| cfg!(feature = "prometheus") || is_push(exporter);
            list(&mut config.metrics_exporters, value, accepts)
        },
    ),
    own(
        "OTEL_LOGS_EXPORTER",
        "LIST",
        "otlp",
        "The exporters of log records: `otlp`, `console` or `none`. The console logs on stderr are separate",
        |config, value| list(&mut config.logs_exporters, value, is_push),
    ),
    own(
        "OTEL_PROPAGATORS",
        "LIST",
        "tracecontext,baggage",
        "The formats of trace context and baggage: `tracecontext`, `baggage`, `b3`, `b3multi`, `jaeger` or `none`. If a request has several trace contexts, the first format wins",
        |config, value| list(&mut config.propagators, value, |_| true),
    ),
    own(
        "OTEL_TRACES_SAMPLER",
        "SAMPLER",
        "parentbased_always_on",
        "The sampler: `always_on`, `always_off`, `traceidratio`, or one of them with the prefix `parentbased_`",
        |config, value| set(&mut config.traces_sampler, value.parse()),
    ),
    own(
        "OTEL_TRACES_SAMPLER_ARG",
        "RATIO",
        "1",
        "The share of traces that `traceidratio` samples, from 0 to 1",
        |config, value| set(&mut config.traces_sampler_ratio, ratio(value)),
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}ENDPOINT",
        "URL",
        "http://localhost:4318, or :4317 with gRPC",
        "The collector. With HTTP, the URL for all signals gets the path `/v1/traces`, `/v1/metrics` or `/v1/logs`; the URL of a signal is complete",
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}PROTOCOL",
        "PROTOCOL",
        "http/protobuf",
        "`http/protobuf`, or `grpc` with the feature `grpc`",
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}HEADERS",
        "LIST",
        "",
        "Headers of each request as `key=value` pairs, percent-encoded",
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}COMPRESSION",
        "FORMAT",
        "none",
        "`gzip` or `none`",
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}TIMEOUT",
        "MILLISECONDS",
        "10000",
        "Time limit of one export",
    ),
    elsewhere(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}CERTIFICATE",
        "FILE",
        "PEM file with the CA certificate of an `https` endpoint (without it, the CAs of the system). HTTP needs the feature `tls`",
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}INSECURE",
        "BOOL",
        "false",
        "gRPC only: whether an endpoint without a scheme is used without TLS",
    ),
    unsupported(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}CLIENT_KEY",
        "Private key of the client for mTLS",
    ),
    unsupported(
        "OTEL_EXPORTER_OTLP_{SIGNAL_}CLIENT_CERTIFICATE",
        "Certificate of the client for mTLS",
    ),
    sdk(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "TEMPORALITY",
        "cumulative",
        "`cumulative`, `delta` or `lowmemory`",
    ),
    unsupported(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "The aggregation of histograms",
    ),
    own(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "N",
        "8192",
        "Maximum number of ended spans in the queue of an exporter. If it is full, spans are dropped",
        |config, value| set(&mut config.span_queue_size, count(value)),
    ),
    sdk(
        "OTEL_BSP_SCHEDULE_DELAY",
        "MILLISECONDS",
        "5000",
        "Longest time between two exports of spans",
    ),
    unsupported(
        "OTEL_BSP_EXPORT_TIMEOUT",
        "Time limit of one export of spans; `OTEL_EXPORTER_OTLP_TIMEOUT` limits it",
    ),
    sdk(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "N",
        "512",
        "Maximum number of spans in one export",
    ),
    own(
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        "N",
        "2048",
        "Maximum number of log records in the queue of an exporter. If it is full, log records are dropped",
        |config, value| set(&mut config.log_queue_size, count(value)),
    ),
    sdk(
        "OTEL_BLRP_SCHEDULE_DELAY",
        "MILLISECONDS",
        "1000",
        "Longest time between two exports of log records",
    ),
    unsupported(
        "OTEL_BLRP_EXPORT_TIMEOUT",
        "Time limit of one export of log records; `OTEL_EXPORTER_OTLP_TIMEOUT` limits it",
    ),
    sdk(
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        "N",
        "512",
        "Maximum number of log records in one export",
    ),
    sdk(
        "OTEL_METRIC_EXPORT_INTERVAL",
        "MILLISECONDS",
        "60000",
        "Time between two exports of metrics",
    ),
    unsupported(
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "Time limit of one export of metrics; `OTEL_EXPORTER_OTLP_TIMEOUT` limits it",
    ),
    own(
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "N",
        "",
        "Maximum length of a string attribute of a span, in characters. Longer values are truncated",
        |config, value| {
            set(
                &mut config.attribute_value_length_limit,
                count(value).map(Some),
            )
        },
    ),
    unsupported("OTEL_ATTRIBUTE_COUNT_LIMIT", "Limit of attributes"),
    unsupported(
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "Limit of a span's attributes",
    ),
    sdk(
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "N",
        "128",
        "Maximum number of attributes of a span",
    ),
    sdk(
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        "N",
        "128",
        "Maximum number of events of a span",
    ),
    sdk(
        "OTEL_SPAN_LINK_COUNT_LIMIT",
        "N",
        "128",
        "Maximum number of links of a span",
    ),
    unsupported(
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
        "Limit of a span event's attributes",
    ),
    unsupported(
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        "Limit of a link's attributes",
    ),
    unsupported(
        "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "Limit of a log record's attributes",
    ),
    unsupported(
        "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
        "Limit of a log record's attributes",
    ),
    unsupported(
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "Exemplars, which the SDK does not have",
    ),
    unsupported(
        "OTEL_EXPORTER_PROMETHEUS_HOST",
        "The listener of the Prometheus exporter; a service serves `Telemetry::scrape` itself",
    ),
    unsupported(
        "OTEL_EXPORTER_PROMETHEUS_PORT",
        "The listener of the Prometheus exporter; a service serves `Telemetry::scrape` itself",
    ),
    unsupported("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "Zipkin"),
    unsupported("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "Zipkin"),
    unsupported("OTEL_ENTITIES", "Entities of the resource"),
    unsupported(
        "OTEL_LOG_LEVEL",
        "Log level of the SDK; `RUST_LOG` filters its messages",
    ),
    elsewhere(
        FILE,
        "FILE",
        "Declarative configuration, version 1.0: exporters, processors, sampler, limits, propagators, resource and views. It replaces all other variables of OpenTelemetry",
    ),
    own(
        "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",
        "LIST",
        "GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH,QUERY",
        "The HTTP methods that are recorded by name, separated by commas. Every other method is recorded as `_OTHER`",
        |config, value| {
            let methods = value.split(',').map(str::trim).filter(|it| !it.is_empty());
            set(
                &mut config.http_known_methods,
                Ok(Some(methods.map(str::to_owned).collect())),
            )
        },
    ),
    own(
        "TRACES_PROCESSOR",
        "PROCESSOR",
        "batch",
        "The span processor: `batch`, or `simple`, which exports each span immediately and is supported only with the console exporter",
        |config, value| set(&mut config.traces_processor, value.parse()),
    ),
    own(
        "TRACES_FILTER",
        "FILTER",
        "info",
        "Filter of the spans that are created, as `target=level` pairs",
        |config, value| set(&mut config.traces_filter, parse::<Targets>(value)),
    ),
    own(
        "LOGS_FILTER",
        "FILTER",
        "info,sqlx_core::pool=error",
        "Filter of the log records that are exported, as `target=level` pairs",
        |config, value| set(&mut config.logs_filter, parse::<Targets>(value)),
    ),
    own(
        "RUST_LOG",
        "FILTER",
        "info",
        "Filter of the console logs, as `EnvFilter` directives. It does not affect what is exported",
        |config, value| {
            EnvFilter::builder()
                .parse(value)
                .map_err(|error| format!("{value:?}: {error}"))?;
            set(&mut config.console_filter, Ok(value.to_owned()))
        },
    ),
    own(
        "LOG_FORMAT",
        "FORMAT",
        "text if stderr is a terminal, else json",
        "Format of the console logs: `text`, `json` or `logfmt`",
        |config, value| set(&mut config.log_format, value.parse().map(Some)),
    ),
    own(
        "LOG_SPAN_FIELDS",
        "LIST",
        "console",
        "The outputs whose log records have the fields of the spans around them: `console`, `otlp` or `none`",
        |config, value| list(&mut config.log_span_fields, value, |_| true),
    ),
    own(
        "LOG_SPANS",
        "BOOL",
        "true with logfmt, else false",
        "Whether the console logs the start and the end of each span",
        |config, value| set(&mut config.log_spans, boolean(value).map(Some)),
    ),
    own(
        "LOG_RATE_LIMIT",
        "N",
        "no limit",
        "Maximum number of log events of one call site per second. Further events are dropped and counted",
        |config, value| set(&mut config.log_rate_limit, parse(value).map(Some)),
    ),
    #[cfg(feature = "sentry")]
    own(
        "SENTRY_DSN",
        "DSN",
        "",
        "DSN of the Sentry project, or of a server with Sentry's protocol (without it, errors are not reported)",
        |config, value| set(&mut config.sentry_dsn, Ok(Some(value.to_owned().into()))),
    ),
    #[cfg(feature = "sentry")]
    own(
        "SENTRY_WARNINGS",
        "BOOL",
        "false",
        "Whether warnings are reported to Sentry as events. Otherwise they are only breadcrumbs",
        |config, value| set(&mut config.sentry_warnings, boolean(value)),
    ),
    #[cfg(feature = "sentry")]
    own(
        "GRAFANA_URL",
        "URL",
        "",
        "Base URL of Grafana. Each Sentry event links to its trace and its logs there",
        // The URL may contain a password.
        |config, value| {
            let url = value
                .parse()
                .map_err(|error: url::ParseError| error.to_string())?;
            set(&mut config.grafana_url, Ok(Some(url)))
        },
    ),
];
