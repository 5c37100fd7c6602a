"""One service in detail."""

from panels import board, choice, fill, lines, quantile, rate, row, series, traces, volume

ONE = 'service_name="$service_name"'
SERVER = "http_server_request_duration_seconds"
CLIENT = "http_client_request_duration_seconds"
DATABASE = "db_client_operation_duration_seconds"


def durations(title, histogram, *by, about, width=8, where=ONE, legend, exemplars=False):
    """The middle and the slow end of a histogram."""
    middle, slow = (quantile(share, histogram, *by, where=where) for share in (0.5, 0.95))
    queries = (middle, f"{legend} 50 %"), (slow, f"{legend} 95 %")
    return series(title, "s", *queries, about=about, width=width, exemplars=exemplars)


def dashboard():
    return fill(
        board(
            "service",
            "Service",
            "Requests, routes, dependencies, logs and traces of one service.",
            variables=[choice("service_name", "Service", f"{SERVER}_count")],
        ),
        row(
            "Requests",
            series(
                "Requests by route",
                "reqps",
                (
                    rate(f"{SERVER}_count", "http_request_method", "http_route", where=ONE),
                    "{{http_request_method}} {{http_route}}",
                ),
                about="Answered requests a second.",
            ),
            series(
                "Answers by status",
                "reqps",
                (
                    rate(f"{SERVER}_count", "http_response_status_code", where=ONE),
                    "{{http_response_status_code}}",
                ),
                about="Without a status: the client left first.",
                stacked=True,
            ),
            durations(
                "Duration by route",
                "traces_span_metrics_duration_seconds",
                "http_route",
                where=f'{ONE}, span_kind="SPAN_KIND_SERVER"',
                legend="{{http_route}}",
                about="From the spans, before any is sampled. A point opens its trace, if that is kept.",
                exemplars=True,
            ),
            series(
                "Being answered",
                "short",
                (
                    f"sum by (http_request_method) (http_server_active_requests{{{ONE}}})",
                    "{{http_request_method}}",
                ),
                about="At the moment of each export.",
            ),
            series(
                "Bytes in bodies",
                "Bps",
                (rate("http_server_request_body_size_bytes_sum", where=ONE), "received"),
                (rate("http_server_response_body_size_bytes_sum", where=ONE), "sent"),
                about="Where the size is known before the body is sent.",
            ),
            volume(
                "Exceptions",
                'sum by (exception_type) (count_over_time({service_name="$service_name"}'
                ' | exception_type!="" [$__auto]))',
                "{{exception_type}}",
                about="Log records of errors and panics, by type.",
            ),
        ),
        row(
            "What it depends on",
            durations(
                "Statements",
                DATABASE,
                "db_operation_name",
                "db_collection_name",
                legend="{{db_operation_name}} {{db_collection_name}}",
                about="As the service sees them, waiting for a connection left out.",
            ),
            series(
                "Connections to the database",
                "short",
                (
                    f"sum by (db_client_connection_state) (db_client_connection_count{{{ONE}}})",
                    "{{db_client_connection_state}}",
                ),
                (f"sum(db_client_connection_max{{{ONE}}})", "may be open"),
                (f"sum(db_client_connection_pending_requests{{{ONE}}})", "wait for one"),
                about="The pool's.",
            ),
            durations(
                "Wait for a connection",
                "db_client_connection_wait_time_seconds",
                legend="wait",
                about="From asking the pool until it gave one.",
            ),
            durations(
                "Calls of other services",
                CLIENT,
                "server_address",
                "url_template",
                legend="{{server_address}} {{url_template}}",
                about="As this service sees them. bookapp calls backend; backend calls nobody.",
                width=12,
            ),
            durations(
                "Spans of every kind",
                "traces_span_metrics_duration_seconds",
                "span_name",
                where=f'{ONE}, span_kind!="SPAN_KIND_SERVER"',
                legend="{{span_name}}",
                about="Statements, calls, messages, work. A point opens its trace, if that is kept.",
                width=12,
                exemplars=True,
            ),
        ),
        row(
            "Logs and traces",
            volume(
                "Log lines by severity",
                'sum by (severity_text) (count_over_time({service_name="$service_name"}[$__auto]))',
                "{{severity_text}}",
                about="A jump of warnings or errors is where to look.",
            ),
            traces(
                "Slow requests",
                '{ resource.service.name = "$service_name" && kind = server && duration > 50ms }',
                about="The newest that took over 50 ms.",
                width=8,
                height=8,
            ),
            traces(
                "Failed requests",
                '{ resource.service.name = "$service_name" && status = error }',
                about="The newest with a span that failed.",
                width=8,
                height=8,
            ),
            lines(
                "Log",
                '{service_name="$service_name"}',
                about="Open a line: its trace is a click away.",
            ),
        ),
    )
