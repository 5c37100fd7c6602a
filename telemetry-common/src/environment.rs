//! The `OTEL_*` variables that are set and that nobody reads here: said at start, so that nobody
//! wonders. docs/configuration.md says who reads the others.

use std::env;

use tracing::warn;

/// Read by the SDK or by us.
const READ: [&str; 24] = [
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
/// What an exporter reads, of all signals and of each.
const EXPORTER: [&str; 7] = [
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
        .filter(|name| name.starts_with("OTEL_") && !is_read(name))
        .collect();
    if !ignored.is_empty() {
        warn!(
            name: "telemetry.settings.ignored",
            "set and not read: {}",
            ignored.join(", ")
        );
    }
}

fn is_read(name: &str) -> bool {
    let of_exporter = name
        .strip_prefix("OTEL_EXPORTER_OTLP_")
        .is_some_and(|rest| {
            let signals = ["TRACES_", "METRICS_", "LOGS_"];
            let of_signal = signals.iter().find_map(|signal| rest.strip_prefix(signal));
            EXPORTER.contains(&of_signal.unwrap_or(rest))
        });
    of_exporter || READ.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_not() {
        for read in [
            "OTEL_PROPAGATORS",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
        ] {
            assert!(is_read(read), "{read}");
        }
        for ignored in [
            "OTEL_CONFIG_FILE",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        ] {
            assert!(!is_read(ignored), "{ignored}");
        }
    }
}
