//! The environment variables: those that OpenTelemetry defines, and those of this crate.
//!
//! Names and meanings of the standard variables:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

use std::{env, fmt::Display, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::Targets};

use crate::{Exporter, TelemetryConfig, config::FILE};

/// An environment variable.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// The name. `{SIGNAL_}` stands for nothing, `TRACES_`, `METRICS_` or `LOGS_`.
    pub name: &'static str,
    /// The kind of value, such as `BOOL`.
    pub value: &'static str,
    /// The default; empty if there is none.
    pub default: &'static str,
    /// What the variable does.
    pub effect: &'static str,
    /// The component that reads the variable.
    pub reader: Reader,
}

/// The component that reads a [`Variable`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Reader {
    /// This crate. It applies the value to the settings, or reads the variable where it is needed.
    #[doc(hidden)]
    Crate(Option<Apply>),
    /// The OpenTelemetry SDK or its OTLP exporters.
    Sdk,
    /// None: the variable is not supported, and a warning at start names it.
    Nobody,
}

/// Applies a value. Returns what is wrong with it.
pub(crate) type Apply = fn(&mut TelemetryConfig, &str) -> Result<(), String>;

impl Variable {
    /// Whether OpenTelemetry defines the variable. An invalid value of such a variable is ignored.
    pub fn is_standard(&self) -> bool {
        self.name.starts_with("OTEL_")
    }

    /// Checks a value that the SDK ignores if it is invalid. The SDK itself warns of an unknown name.
    fn check(&self, value: &str) -> Result<(), String> {
        match self.value {
            "BOOL" => boolean(value).map(drop),
            "N" | "MILLISECONDS" => count(value).map(drop),
            "LIST" => pairs(value),
            _ => Ok(()),
        }
    }

    /// Returns the names that the variable has: one, or one for all signals and one for each.
    pub fn names(&self) -> Vec<String> {
        match self.name.split_once("{SIGNAL_}") {
            None => vec![self.name.to_owned()],
            Some((start, end)) => ["", "TRACES_", "METRICS_", "LOGS_"]
                .map(|signal| format!("{start}{signal}{end}"))
                .to_vec(),
        }
    }
}

/// Declares a variable that this crate applies.
const fn own(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    effect: &'static str,
    apply: Apply,
) -> Variable {
    let reader = Reader::Crate(Some(apply));
    Variable {
        name,
        value,
        default,
        effect,
        reader,
    }
}

/// Declares a variable that the SDK reads.
const fn sdk(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    effect: &'static str,
) -> Variable {
    let reader = Reader::Sdk;
    Variable {
        name,
        value,
        default,
        effect,
        reader,
    }
}

/// Declares a standard variable that nobody reads.
const fn unsupported(name: &'static str, effect: &'static str) -> Variable {
    let reader = Reader::Nobody;
    Variable {
        name,
        value: "",
        default: "",
        effect,
        reader,
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
    Variable {
        name: "OTEL_EXPORTER_OTLP_{SIGNAL_}CERTIFICATE",
        value: "FILE",
        default: "",
        effect: "PEM file with the CA certificate of an `https` endpoint (without it, the CAs of the system). HTTP needs the feature `tls`",
        reader: Reader::Crate(None),
    },
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
    Variable {
        name: FILE,
        value: "FILE",
        default: "",
        effect: "Declarative configuration, version 1.0: exporters, processors, sampler, limits, propagators, resource and views. It replaces all other variables of OpenTelemetry",
        reader: Reader::Crate(None),
    },
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
        "Format of the console logs: `text` or `json`",
        |config, value| set(&mut config.log_format, value.parse().map(Some)),
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

/// Sets a field to a value that was parsed.
fn set<T>(field: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *field = parsed?;
    Ok(())
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

fn ratio(value: &str) -> Result<f64, String> {
    let ratio: f64 = parse(value.trim())?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(format!("{value:?} is not between 0 and 1"))
    }
}

fn pairs(value: &str) -> Result<(), String> {
    match value.split(',').find(|pair| !pair.contains('=')) {
        None => Ok(()),
        // The value of a header may be a secret.
        Some(_) => Err("an item is not a key=value pair".to_owned()),
    }
}

fn count(value: &str) -> Result<usize, String> {
    parse(value.trim())
}

fn parse<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{value:?}: {error}"))
}

/// Sets `list` to the accepted items of `value`; `none` is the empty list. Returns what is wrong
/// with the others.
fn list<T>(list: &mut Vec<T>, value: &str, accepts: impl Fn(T) -> bool) -> Result<(), String>
where
    T: FromStr<Err = String> + PartialEq + Copy,
{
    let (mut accepted, mut wrong, mut none) = (Vec::new(), Vec::new(), false);
    for text in value
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        match text.parse() {
            Err(_) if text.eq_ignore_ascii_case("none") => none = true,
            Err(reason) => wrong.push(reason),
            Ok(item) if !accepts(item) => wrong.push(format!("{text:?} is not supported here")),
            Ok(item) if accepted.contains(&item) => {}
            Ok(item) => accepted.push(item),
        }
    }
    if none || !accepted.is_empty() {
        *list = accepted;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// Whether an exporter sends data, in contrast to one that is read.
fn is_push(exporter: Exporter) -> bool {
    exporter != Exporter::Prometheus
}

/// Returns what is wrong with the variables that are set and that this crate does not apply, in one
/// sentence each.
#[expect(
    clippy::disallowed_methods,
    reason = "looks for variables that others read"
)]
pub(crate) fn warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    for variable in VARIABLES {
        for name in variable.names() {
            let value = env::var(&name).unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            match variable.reader {
                Reader::Crate(_) => {}
                Reader::Nobody => warnings.push(format!("ignored {name}: it is not supported")),
                Reader::Sdk => {
                    let invalid = variable.check(&value).err();
                    warnings.extend(invalid.map(|reason| format!("ignored {name}: {reason}")));
                }
            }
        }
    }
    let known: Vec<_> = VARIABLES.iter().flat_map(Variable::names).collect();
    let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = set.filter(|name| name.starts_with("OTEL_") && !known.contains(name));
    warnings.extend(unknown.map(|name| format!("ignored {name}: it is not known")));
    warnings
}
