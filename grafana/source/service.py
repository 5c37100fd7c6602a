"""Dashboard "Service": requests, dependencies, logs and traces of one service."""

from panels import board, choice, fill, lines, quantile, rate, row, series, traces, volume

ONE = 'service_name="$service_name"'
SERVER = "http_server_request_duration_seconds"
CLIENT = "http_client_request_duration_seconds"
DATABASE = "db_client_operation_duration_seconds"


def durations(title, histogram, *by, about, width=8, where=ONE, legend, exemplars=False):
    """p50 and p95 of a histogram."""
    middle, slow = (quantile(share, histogram, *by, where=where) for share in (0.5, 0.95))
    queries = (middle, f"{legend} p50"), (slow, f"{legend} p95")
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
                "Request rate by route",
                "reqps",
                (
                    rate(f"{SERVER}_count", "http_request_method", "http_route", where=ONE),
                    "{{http_request_method}} {{http_route}}",
                ),
                about="Completed requests per second. A route that drops to 0 under load is"
                " unreachable.",
            ),
            series(
                "Response status codes",
                "reqps",
                (
                    rate(f"{SERVER}_count", "http_response_status_code", where=ONE),
                    "{{http_response_status_code}}",
                ),
                about="Responses per second by status. 5xx are errors of the service; requests"
                " without a status were cancelled by the client.",
                stacked=True,
            ),
            durations(
                "Latency p50, p95 by route",
                "traces_span_metrics_duration_seconds",
                "http_route",
                where=f'{ONE}, span_kind="SPAN_KIND_SERVER"',
                legend="{{http_route}}",
                about="Duration of server spans, measured before sampling. A high p95 with a"
                " normal p50 means that some requests wait. An exemplar opens its trace, if"
                " tail sampling kept the trace.",
                exemplars=True,
            ),
            series(
                "In-flight requests",
                "short",
                (
                    f"sum by (http_request_method) (http_server_active_requests{{{ONE}}})",
                    "{{http_request_method}}",
                ),
                about="Requests in progress at the time of each metrics export. A growing number"
                " means that the service responds too slowly.",
            ),
            series(
                "Request and response body bytes",
                "Bps",
                (rate("http_server_request_body_size_bytes_sum", where=ONE), "received"),
                (rate("http_server_response_body_size_bytes_sum", where=ONE), "sent"),
                about="Bytes per second in bodies whose size is known before transfer. A jump"
                " means that clients send or fetch unusually large bodies.",
            ),
            volume(
                "Exceptions",
                'sum by (exception_type) (count_over_time({service_name="$service_name"}'
                ' | exception_type!="" [$__auto]))',
                "{{exception_type}}",
                about="Log records of errors and panics by exception type. A new type usually"
                " comes with a new failure.",
            ),
        ),
        row(
            "Dependencies",
            durations(
                "Query latency by operation",
                DATABASE,
                "db_operation_name",
                "db_collection_name",
                legend="{{db_operation_name}} {{db_collection_name}}",
                about="Duration of SQL statements, measured by the service, with the wait for a"
                " connection. A high value means a slow statement, a lock or an exhausted pool.",
            ),
            series(
                "Connection pool usage",
                "short",
                (
                    f"sum by (db_client_connection_state) (db_client_connection_count{{{ONE}}})",
                    "{{db_client_connection_state}}",
                ),
                (f"sum(db_client_connection_max{{{ONE}}})", "max"),
                (f"sum(db_client_connection_pending_requests{{{ONE}}})", "pending requests"),
                about="Connections of the pool by state, and statements that wait for one. Pending"
                " requests above 0 mean that the pool is exhausted.",
            ),
            durations(
                "Pool wait time",
                "db_client_connection_wait_time_seconds",
                legend="wait time",
                about="Time from requesting a connection from the pool until the pool provides it."
                " More than a few milliseconds means that the pool is too small.",
            ),
            durations(
                "HTTP client latency",
                CLIENT,
                "server_address",
                "url_template",
                legend="{{server_address}} {{url_template}}",
                about="Duration of calls to other services, measured by this service. bookapp"
                " calls backend; backend calls no service, so the panel is empty for it. A"
                " high value means that the called service or the network is slow.",
                width=12,
            ),
            durations(
                "Span latency by name",
                "traces_span_metrics_duration_seconds",
                "span_name",
                where=f'{ONE}, span_kind!="SPAN_KIND_SERVER"',
                legend="{{span_name}}",
                about="Duration of all spans except server spans: statements, calls, messages,"
                " internal work. The slowest span names the bottleneck. An exemplar opens its"
                " trace, if tail sampling kept the trace.",
                width=12,
                exemplars=True,
            ),
        ),
        row(
            "Logs and traces",
            volume(
                "Log volume by level",
                'sum by (severity_text) (count_over_time({service_name="$service_name"}[$__auto]))',
                "{{severity_text}}",
                about="Log records by severity. A jump of WARN or ERROR marks the start of a"
                " problem.",
            ),
            traces(
                "Slow requests",
                '{ resource.service.name = "$service_name" && kind = server && duration > 50ms }',
                about="Newest requests that took longer than 50 ms. Open one to see where the time"
                " goes.",
                width=8,
                height=8,
            ),
            traces(
                "Traces with errors",
                '{ resource.service.name = "$service_name" && status = error }',
                about="Newest traces with a span of this service that has status Error.",
                width=8,
                height=8,
            ),
            lines(
                "Logs",
                '{service_name="$service_name"}',
                about="Newest log records of the service. The details of a line have a link to its"
                " trace.",
            ),
            lines(
                "Console lines in logfmt",
                '{service_name=~"(bookapp|backend)-console"} | logfmt | __error__=""'
                ' | trace_id!="" | line_format "{{.level}} {{.span_event}} {{.span_name}}{{.msg}}"',
                about="The console lines of both services as Loki parses them, with the starts and"
                " ends of spans. Needs LOG_FORMAT=logfmt and the compose profile containers.",
            ),
        ),
    )
