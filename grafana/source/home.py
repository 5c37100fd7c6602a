"""Dashboard "Start here": system health, recent errors and links to the other dashboards."""

from panels import (
    board,
    counted_lines,
    fill,
    firing,
    lines,
    number,
    quantile,
    rate,
    row,
    series,
    service_map,
    share,
    text,
)

REQUESTS = "http_server_request_duration_seconds_count"
FAILED = 'http_response_status_code=~"5.."'

WORDS = """
A book goes from an HTTP request through PostgreSQL, an outbox and Kafka to a worker and back.
**Click an exemplar** (a point on a latency line) to open a trace of that moment, **a log line** to
open its trace, **a node of the service map** to see its metrics. In a trace, the links of a span
open its logs, its metrics and its Sentry event. The span of a created message also has a link to
the consumers of the message.

[Ingress](/d/ingress) · [Services](/d/service) ·
[Asynchronous processing](/d/asynchronous) · [PostgreSQL](/d/postgresql) · [Kafka](/d/kafka) · [Runtime](/d/runtime) ·
[Telemetry pipeline](/d/pipeline) · [Objectives](/d/objectives) · [Runbooks](/dashboards?tag=runbook) ·
[Explore traces](/explore) ·
[Start page of the API](http://localhost:8000) · [Alertmanager](http://localhost:9093) · [Load generator](http://localhost:8089) ·
[Errors in Bugsink](http://localhost:8002)
"""


def dashboard():
    return fill(
        board("home", "Start here", "System health, recent errors, links to every dashboard."),
        row(
            "Health",
            text(WORDS, width=12, height=8),
            number(
                "Services ready",
                "short",
                'httpcheck_status{http_status_class="2xx"}',
                "{{http_url}}",
                about="Result of the readiness probe, which the collector sends periodically. 'not"
                " ready' means that the service cannot reach a dependency or is down.",
                width=6,
                height=8,
                states={1: ("ready", "green"), 0: ("not ready", "red")},
            ),
            number(
                "Scrape targets up",
                "short",
                "up",
                "{{instance}}",
                about="Result of the last Prometheus scrape: the collector, Loki, Tempo (compose"
                " only), Prometheus itself. 'down' means that the target did not respond.",
                width=6,
                height=8,
                states={1: ("up", "green"), 0: ("down", "red")},
            ),
            number(
                "Outbox backlog",
                "short",
                "sum(bookapp_outbox_pending)",
                about="Messages in the outbox that are not sent yet. It is near 0 while Kafka is"
                " reachable.",
                width=6,
            ),
            number(
                "Consumer lag",
                "short",
                "sum(bookapp_consumer_lag)",
                about="Messages on the topic that are not processed yet. It is near 0 while a"
                " worker keeps up.",
                width=6,
            ),
            number(
                "Dead letters",
                "short",
                "sum(bookapp_consumer_dead_letters_total)",
                about="Messages that the worker sent to the dead-letter topic since it started."
                " Each one needs a look at its cause and a replay.",
                width=6,
            ),
            counted_lines(
                "Error logs, last 15 minutes",
                'sum(count_over_time({service_name=~"bookapp|backend"} | severity_text="ERROR" [15m]))',
                about="Number of log records with severity ERROR. It is 0 in normal operation.",
                width=6,
            ),
        ),
        row(
            "Alerts",
            firing(
                "Active alerts",
                about="Alerts that fire now. The watchdog always fires: it shows that alerting"
                " works. The start page of the API has links to runbooks, traces and logs.",
            ),
        ),
        row(
            "Rate, errors, duration (RED) of both services",
            series(
                "Request rate",
                "reqps",
                (rate(REQUESTS, "service_name"), "{{service_name}}"),
                about="Completed requests per second, without health probes. A sudden drop means"
                " that clients cannot reach the service.",
            ),
            series(
                "Error rate",
                "percentunit",
                (
                    share(
                        rate(REQUESTS, "service_name", where=FAILED),
                        rate(REQUESTS, "service_name"),
                    ),
                    "{{service_name}}",
                ),
                about="Share of requests with a 5xx response. 4xx responses do not count: they are"
                " errors of the client.",
            ),
            series(
                "Latency p95",
                "s",
                (
                    quantile(
                        0.95,
                        "traces_span_metrics_duration_seconds",
                        "service_name",
                        where='span_kind="SPAN_KIND_SERVER"',
                    ),
                    "{{service_name}} p95",
                ),
                about="Duration of server spans, measured before sampling. A high value means slow"
                " responses. An exemplar opens its trace, if tail sampling kept the trace.",
                exemplars=True,
            ),
        ),
        row(
            "Dependencies",
            service_map(
                "Service map",
                about="Calls between services, databases and topics, which the collector derives"
                " from spans. A missing edge means that no call took place.",
                width=24,
            ),
        ),
        row(
            "Traffic",
            series(
                "Start page visits",
                "short",
                ("sum(increase(bookapp_visitors_total[$__rate_interval]))", "visits"),
                about="How often browsers opened the start page of bookapp.",
            ),
            series(
                "HTTP connections",
                "short",
                ("sum by (service_name) (telemetry_common_connection_active)", "{{service_name}} open"),
                (
                    rate("telemetry_common_connection_opened_total", "service_name"),
                    "{{service_name}} opened per second",
                ),
                about="Open TCP connections, and connections opened per second. With keep-alive,"
                " one connection carries many requests. As many new connections as requests"
                " means that clients do not reuse them.",
            ),
            series(
                "In-flight requests",
                "short",
                ("sum by (service_name) (http_server_active_requests)", "{{service_name}}"),
                about="Requests in progress at the time of each metrics export. A growing number"
                " means that the service responds too slowly.",
            ),
        ),
        row(
            "Recent errors",
            lines(
                "Error logs",
                '{service_name=~"bookapp|backend"} | severity_text="ERROR"',
                about="Newest log records with severity ERROR. The details of a line have a link"
                " to its trace.",
            ),
        ),
    )
