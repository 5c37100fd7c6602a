//! Logs at start which `OTEL_*` variables are set although neither the SDK nor this crate reads
//! them. docs/configuration.md lists the supported variables.

use std::env;

use tracing::warn;

/// The variables that the SDK or this crate reads, without those of the exporters.
const SUPPORTED: [&str; 24] = [
    "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_LOGS_EXPORTER",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BLRP_SCHEDULE_DELAY",
    "OTEL_BLRP_EXPORT_TIMEOUT",
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
];
/// The variables that an OTLP exporter reads. Each exists for all signals, as
/// `OTEL_EXPORTER_OTLP_{name}`, and for one signal, as `OTEL_EXPORTER_OTLP_{signal}_{name}`.
const SUPPORTED_BY_EXPORTERS: [&str; 7] = [
    "CERTIFICATE",
    "ENDPOINT",
    "HEADERS",
    "PROTOCOL",
    "TIMEOUT",
    "COMPRESSION",
    "INSECURE",
];

pub(crate) fn warn_about_ignored() {
    let ignored: Vec<_> = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("OTEL_") && !is_supported(name))
        .collect();
    if !ignored.is_empty() {
        warn!(
            name: "telemetry_common.settings.ignored",
            "ignored unsupported environment variables: {}",
            ignored.join(", ")
        );
    }
}

fn is_supported(name: &str) -> bool {
    let is_of_exporter = name
        .strip_prefix("OTEL_EXPORTER_OTLP_")
        .is_some_and(|rest| {
            let signals = ["TRACES_", "METRICS_", "LOGS_"];
            let of_signal = signals.iter().find_map(|signal| rest.strip_prefix(signal));
            SUPPORTED_BY_EXPORTERS.contains(&of_signal.unwrap_or(rest))
        });
    is_of_exporter || SUPPORTED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_and_unsupported_variables_are_distinguished() {
        for supported in [
            "OTEL_PROPAGATORS",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
        ] {
            assert!(is_supported(supported), "{supported}");
        }
        for unsupported in [
            "OTEL_CONFIG_FILE",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        ] {
            assert!(!is_supported(unsupported), "{unsupported}");
        }
    }
}
