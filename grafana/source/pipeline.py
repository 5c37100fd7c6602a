"""Telemetry about telemetry: what was made, what arrived, what was lost, what it costs."""

from panels import board, fill, number, rate, row, series


SIGNALS = {"spans": "spans", "log_records": "log records", "metric_points": "points"}


def of_each(metric, words):
    """A line for each signal."""
    return [(rate(f"{metric}_{signal}"), f"{name} {words}") for signal, name in SIGNALS.items()]


def dashboard():
    return fill(
        board(
            "pipeline",
            "Telemetry pipeline",
            "What was made, what arrived, what was lost, and what it costs.",
        ),
        row(
            "In the services",
            series(
                "Spans",
                "short",
                (rate("otel_sdk_span_started_total", "service_name"), "{{service_name}} made"),
                (
                    rate(
                        "otel_sdk_exporter_span_exported_total",
                        "service_name",
                        where='error_type=""',
                    ),
                    "{{service_name}} delivered",
                ),
                about="A second.",
            ),
            series(
                "Log records",
                "short",
                (rate("otel_sdk_log_created_total", "service_name"), "{{service_name}} made"),
                (
                    rate(
                        "otel_sdk_exporter_log_exported_total",
                        "service_name",
                        where='error_type=""',
                    ),
                    "{{service_name}} delivered",
                ),
                about="A second.",
            ),
            series(
                "Lost before the collector",
                "short",
                (
                    rate(
                        "otel_sdk_processor_span_processed_total",
                        "service_name",
                        where='error_type!=""',
                    ),
                    "{{service_name}} spans, queue full",
                ),
                (
                    rate(
                        "otel_sdk_processor_log_processed_total",
                        "service_name",
                        where='error_type!=""',
                    ),
                    "{{service_name}} log records, queue full",
                ),
                (
                    rate(
                        "otel_sdk_exporter_span_exported_total",
                        "service_name",
                        where='error_type!=""',
                    ),
                    "{{service_name}} spans, given up",
                ),
                (
                    rate(
                        "otel_sdk_exporter_log_exported_total",
                        "service_name",
                        where='error_type!=""',
                    ),
                    "{{service_name}} log records, given up",
                ),
                about="A second. It should be 0.",
            ),
            series(
                "Queues",
                "percentunit",
                (
                    "sum by (service_name) (otel_sdk_processor_span_queue_size)"
                    " / sum by (service_name) (otel_sdk_processor_span_queue_capacity)",
                    "{{service_name}} spans",
                ),
                (
                    "sum by (service_name) (otel_sdk_processor_log_queue_size)"
                    " / sum by (service_name) (otel_sdk_processor_log_queue_capacity)",
                    "{{service_name}} log records",
                ),
                about="How full they are. A full one drops what comes.",
                width=12,
            ),
            series(
                "Sentry events",
                "short",
                (
                    "sum by (service_name) (increase(telemetry_sentry_event_created_total"
                    "[$__rate_interval]))",
                    "{{service_name}} made",
                ),
                (
                    "sum by (service_name) (increase(telemetry_sentry_event_exported_total"
                    '{error_type=""}[$__rate_interval]))',
                    "{{service_name}} taken",
                ),
                (
                    "sum by (service_name) (increase(telemetry_sentry_event_exported_total"
                    '{error_type!=""}[$__rate_interval]))',
                    "{{service_name}} not taken",
                ),
                (
                    "sum by (service_name) (increase(telemetry_sentry_event_processed_total"
                    '{error_type!=""}[$__rate_interval]))',
                    "{{service_name}} found the queue full",
                ),
                about="None without SENTRY_DSN.",
                width=12,
            ),
        ),
        row(
            "In the collector",
            series(
                "Taken",
                "short",
                (rate("otelcol_receiver_accepted_spans"), "spans"),
                (rate("otelcol_receiver_accepted_log_records"), "log records"),
                (rate("otelcol_receiver_accepted_metric_points"), "points"),
                about="A second, over OTLP and from what it scrapes.",
            ),
            series(
                "Sent on",
                "short",
                (rate("otelcol_exporter_sent_spans", "exporter"), "spans, {{exporter}}"),
                (
                    rate("otelcol_exporter_sent_log_records", "exporter"),
                    "log records, {{exporter}}",
                ),
                (rate("otelcol_exporter_sent_metric_points", "exporter"), "points, {{exporter}}"),
                about="A second.",
            ),
            series(
                "Refused, failed",
                "short",
                *of_each("otelcol_receiver_refused", "refused"),
                *of_each("otelcol_exporter_send_failed", "not taken by a backend"),
                *of_each("otelcol_exporter_enqueue_failed", "found the queue full"),
                about="A second. It should be 0.",
            ),
            series(
                "Queues on disk",
                "percentunit",
                (
                    "max by (exporter, data_type) (otelcol_exporter_queue_size"
                    " / otelcol_exporter_queue_capacity)",
                    "{{data_type}}, {{exporter}}",
                ),
                about="They fill while a backend is away, and empty when it is back.",
            ),
            series(
                "Traces kept by tail sampling",
                "short",
                (
                    rate("otelcol_processor_tail_sampling_global_count_traces_sampled", "decision"),
                    "{{decision}}",
                ),
                about="A second. Failed, slow, retried and faulted ones are always kept.",
            ),
            series(
                "Memory",
                "bytes",
                ("max(otelcol_process_memory_rss)", "resident"),
                about="Of the collector.",
            ),
        ),
        row(
            "What it costs",
            series(
                "Bytes sent on",
                "Bps",
                (
                    rate("otelcol_exporter_queue_batch_send_size_bytes_sum", "exporter"),
                    "{{exporter}}",
                ),
                about="Uncompressed.",
            ),
            series(
                "Spans a request",
                "short",
                (
                    f"{rate('bookapp_spans_received_total')}"
                    f" / {rate('http_server_request_duration_seconds_count')}",
                    "spans",
                ),
                about="Of both services, by each answered request; messages are in it.",
            ),
            series(
                "Series by service",
                "short",
                ("service:series:count", "{{service_name}}"),
                about="A label with too many values shows here first.",
            ),
            number(
                "Series in Prometheus",
                "short",
                "sum(prometheus_tsdb_head_series)",
                about="In memory.",
            ),
            number(
                "Samples a second",
                "short",
                rate("prometheus_tsdb_head_samples_appended_total"),
                about="Written to Prometheus.",
            ),
            number(
                "Streams in Loki",
                "short",
                "sum(loki_ingester_memory_streams)",
                about="A stream is a set of labels; trace ids are none.",
            ),
            number(
                "Log bytes a second",
                "Bps",
                rate("loki_distributor_bytes_received_total"),
                about="As Loki received them.",
            ),
        ),
    )
