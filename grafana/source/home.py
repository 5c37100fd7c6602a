"""Start here: what runs, what is wrong, where to click next."""

from panels import (
    board,
    counted_lines,
    fill,
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
**Click a point** on a line of durations to open a trace of that moment, **a log line** to open its
trace, **a node of the map** to see its metrics. In a trace, a span's links lead to its logs, its
metrics, the Sentry event it caused, and from a message to whoever consumed it.

[Services](/d/service) · [From the request to the worker](/d/asynchronous) ·
[PostgreSQL](/d/postgresql) · [Kafka](/d/kafka) · [Runtime](/d/runtime) ·
[Telemetry pipeline](/d/pipeline) · [Explore traces](/explore) ·
[the API's own page](http://localhost:8000) · [load](http://localhost:8089) ·
[errors](http://localhost:8002)
"""


def dashboard():
    return fill(
        board("home", "Start here", "What runs, what is wrong, where to click next."),
        row(
            "Is it well?",
            text(WORDS, width=12, height=8),
            number(
                "Services ready",
                "short",
                'httpcheck_status{http_status_class="2xx"}',
                "{{http_url}}",
                about="The collector asks each service every few seconds.",
                width=6,
                height=8,
                states={1: ("ready", "green"), 0: ("not ready", "red")},
            ),
            number(
                "Parts that answer",
                "short",
                "up",
                "{{instance}}",
                about="What Prometheus scrapes: the collector, Loki, Prometheus itself.",
                width=6,
                height=8,
                states={1: ("up", "green"), 0: ("down", "red")},
            ),
            number(
                "Messages not sent yet",
                "short",
                "sum(bookapp_outbox_pending)",
                about="In the outbox. It stays near 0 while Kafka is there.",
                width=6,
            ),
            number(
                "Messages not processed yet",
                "short",
                "sum(bookapp_consumer_lag)",
                about="On the topic. It stays near 0 while a worker is there.",
                width=6,
            ),
            number(
                "Dead letters",
                "short",
                "sum(bookapp_consumer_dead_letters_total)",
                about="Messages that were given up since the worker started.",
                width=6,
            ),
            counted_lines(
                "Errors in 15 minutes",
                'sum(count_over_time({service_name=~"bookapp|backend"} | severity_text="ERROR" [15m]))',
                about="Log records of severity ERROR.",
                width=6,
            ),
        ),
        row(
            "Requests of both services: rate, errors, duration",
            series(
                "Requests",
                "reqps",
                (rate(REQUESTS, "service_name"), "{{service_name}}"),
                about="Answered requests a second, health probes left out.",
            ),
            series(
                "Share that fails",
                "percentunit",
                (
                    share(
                        rate(REQUESTS, "service_name", where=FAILED),
                        rate(REQUESTS, "service_name"),
                    ),
                    "{{service_name}}",
                ),
                about="Answers from 500 up; what clients do wrong is not a failure.",
            ),
            series(
                "95 of 100 take at most",
                "s",
                (
                    quantile(
                        0.95,
                        "traces_span_metrics_duration_seconds",
                        "service_name",
                        where='span_kind="SPAN_KIND_SERVER"',
                    ),
                    "{{service_name}}",
                ),
                about="From the spans, before any is sampled. A point opens its trace, if that is kept.",
                exemplars=True,
            ),
        ),
        row(
            "Who calls whom",
            service_map("Service map", about="From the spans, by the collector.", width=24),
        ),
        row(
            "Who comes by",
            series(
                "Visitors",
                "short",
                ("sum(increase(bookapp_visitors_total[$__rate_interval]))", "visitors"),
                about="Of bookapp's own page.",
            ),
            series(
                "Connections",
                "short",
                ("sum by (service_name) (telemetry_connections_open)", "{{service_name}} open"),
                (
                    rate("telemetry_connections_opened_total", "service_name"),
                    "{{service_name}} opened a second",
                ),
                about="Below HTTP: one connection carries many requests.",
            ),
            series(
                "Requests being answered",
                "short",
                ("sum by (service_name) (http_server_active_requests)", "{{service_name}}"),
                about="At the moment of each export.",
            ),
        ),
        row(
            "The last errors",
            lines(
                "Errors",
                '{service_name=~"bookapp|backend"} | severity_text="ERROR"',
                about="Open a line: its trace is a click away.",
            ),
        ),
    )
