"""Dashboard "Telemetry pipeline": delivery, loss and cost of the telemetry itself."""

from panels import board, fill, number, rate, row, series


SIGNALS = {"spans": "spans", "log_records": "log records", "metric_points": "points"}


def of_each(metric, words):
    """One query for each signal."""
    return [(rate(f"{metric}_{signal}"), f"{name} {words}") for signal, name in SIGNALS.items()]


def dashboard():
    return fill(
        board(
            "pipeline",
            "Telemetry pipeline",
            "Delivery, loss and cost of spans, log records and metrics.",
        ),
        row(
            "OpenTelemetry SDK in the services",
            series(
                "Spans created and exported",
                "short",
                (rate("otel_sdk_span_started_total", "service_name"), "{{service_name}} created"),
                (
                    rate(
                        "otel_sdk_exporter_span_exported_total",
                        "service_name",
                        where='error_type=""',
                    ),
                    "{{service_name}} exported",
                ),
                about="Spans per second. Fewer exported than created spans means that the SDK"
                " samples or loses spans.",
            ),
            series(
                "Log records created and exported",
                "short",
                (rate("otel_sdk_log_created_total", "service_name"), "{{service_name}} created"),
                (
                    rate(
                        "otel_sdk_exporter_log_exported_total",
                        "service_name",
                        where='error_type=""',
                    ),
                    "{{service_name}} exported",
                ),
                about="Log records per second. Fewer exported than created log records means that"
                " the SDK loses log records.",
            ),
            series(
                "Spans and log records lost in the SDK",
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
                    "{{service_name}} spans, export failed",
                ),
                (
                    rate(
                        "otel_sdk_exporter_log_exported_total",
                        "service_name",
                        where='error_type!=""',
                    ),
                    "{{service_name}} log records, export failed",
                ),
                about="Items per second that never reach the collector. Any value above 0 is lost"
                " telemetry: the queue is full, or the export failed after all retries.",
            ),
            series(
                "SDK queue usage",
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
                about="Used share of the SDK's export queues. At 100 %, a queue drops new items.",
                width=12,
            ),
            series(
                "Sentry events",
                "short",
                (
                    "sum by (service_name) (increase(telemetry_common_sentry_event_created_total"
                    "[$__rate_interval]))",
                    "{{service_name}} created",
                ),
                (
                    "sum by (service_name) (increase(telemetry_common_sentry_event_exported_total"
                    '{error_type=""}[$__rate_interval]))',
                    "{{service_name}} accepted",
                ),
                (
                    "sum by (service_name) (increase(telemetry_common_sentry_event_exported_total"
                    '{error_type!=""}[$__rate_interval]))',
                    "{{service_name}} rejected or failed",
                ),
                (
                    "sum by (service_name) (increase(telemetry_common_sentry_event_processed_total"
                    '{error_type!=""}[$__rate_interval]))',
                    "{{service_name}} dropped, queue full",
                ),
                about="Sentry events since the previous point: created, accepted by the server,"
                " rejected or dropped. Without SENTRY_DSN, there are none. Rejected or"
                " dropped events are errors that are missing in Sentry.",
                width=12,
            ),
        ),
        row(
            "OpenTelemetry Collector",
            series(
                "Spans, log records, metric points received",
                "short",
                (rate("otelcol_receiver_accepted_spans", "tier"), "spans {{tier}}"),
                (rate("otelcol_receiver_accepted_log_records", "tier"), "log records {{tier}}"),
                (rate("otelcol_receiver_accepted_metric_points", "tier"), "points {{tier}}"),
                about="Accepted items per second, over OTLP and from the collector's own"
                " receivers. 0 means that the services do not reach the collector. Gateways"
                " accept again what an agent has accepted.",
            ),
            series(
                "Spans, log records, metric points exported",
                "short",
                (rate("otelcol_exporter_sent_spans", "exporter"), "spans, {{exporter}}"),
                (
                    rate("otelcol_exporter_sent_log_records", "exporter"),
                    "log records, {{exporter}}",
                ),
                (rate("otelcol_exporter_sent_metric_points", "exporter"), "points, {{exporter}}"),
                about="Items per second by exporter. 0 while items arrive means that the backend"
                " of the exporter is down.",
            ),
            series(
                "Collector: refused, failed and dropped items",
                "short",
                *of_each("otelcol_receiver_refused", "refused"),
                *of_each("otelcol_exporter_send_failed", "rejected by a backend"),
                *of_each("otelcol_exporter_enqueue_failed", "dropped, queue full"),
                about="Items per second that a receiver refused, that an exporter failed to send,"
                " or that did not fit into an exporter queue. Any value above 0 is lost or"
                " delayed telemetry.",
            ),
            series(
                "Exporter queue usage",
                "percentunit",
                (
                    "max by (exporter, data_type) (otelcol_exporter_queue_size"
                    " / otelcol_exporter_queue_capacity)",
                    "{{data_type}}, {{exporter}}",
                ),
                about="Used share of the persistent exporter queues. A queue fills while its"
                " backend is down and drains afterwards. At 100 %, it drops new items.",
            ),
            series(
                "Tail sampling decisions",
                "short",
                (
                    rate("otelcol_processor_tail_sampling_global_count_traces_sampled", "decision"),
                    "{{decision}}",
                ),
                about="Tail sampling decisions per second. Traces with errors, slow requests,"
                " retries or injected faults are always sampled. Without sampled traces,"
                " Tempo receives nothing.",
            ),
            series(
                "Collector memory (RSS)",
                "bytes",
                ("max by (tier) (otelcol_process_memory_rss)", "RSS {{tier}}"),
                about="Resident memory of the collector. If its heap reaches 80 % of"
                " OTELCOL_MEMORY_MIB, memory_limiter refuses items.",
            ),
        ),
        row(
            "Cost",
            series(
                "Collector: exported bytes",
                "Bps",
                (
                    rate("otelcol_exporter_queue_batch_send_size_bytes_sum", "exporter"),
                    "{{exporter}}",
                ),
                about="Bytes per second by exporter, before compression. A jump raises the storage"
                " cost.",
            ),
            series(
                "Spans per request",
                "short",
                (
                    f"{rate('bookapp_spans_received_total')}"
                    f" / {rate('http_server_request_duration_seconds_count')}",
                    "spans",
                ),
                about="Spans of both services, including message spans, divided by completed"
                " requests. A rise means more instrumentation or more statements per request.",
            ),
            series(
                "Active time series by service",
                "short",
                ("sum by (service_name) (process:series:count)", "{{service_name}}"),
                about="Active time series per service. A steep rise is a label with unbounded"
                " values.",
            ),
            number(
                "Active time series",
                "short",
                "sum(prometheus_tsdb_head_series)",
                about="Time series in the memory of Prometheus. Its memory grows with this number.",
            ),
            number(
                "Prometheus sample ingestion rate",
                "short",
                rate("prometheus_tsdb_head_samples_appended_total"),
                about="Samples per second that Prometheus stores. 0 means that no metrics arrive.",
            ),
            number(
                "Active log streams",
                "short",
                "sum(loki_ingester_memory_streams)",
                about="Streams in Loki; a stream is one combination of labels. Many streams mean"
                " that a label has too many values. Trace ids are not labels.",
            ),
            number(
                "Log ingestion rate",
                "Bps",
                rate("loki_distributor_bytes_received_total"),
                about="Bytes per second that Loki receives. 0 means that no logs arrive.",
            ),
        ),
    )
