"""Dashboard "Ingress": requests through Traefik, by router and service."""

from panels import board, fill, lines, quantile, rate, row, series, traces


def dashboard():
    requests, duration = "traefik_router_requests_total", "traefik_router_request_duration_seconds"
    return fill(
        board("ingress", "Ingress", "Requests through Traefik, by router and service."),
        row(
            "Routers",
            series(
                "Request rate by router",
                "reqps",
                (rate(requests, "router"), "{{router}}"),
                about="Requests per second through each router. A router without requests means"
                " that its host name is not used, or that clients reach the service directly.",
            ),
            series(
                "Error rate by router",
                "reqps",
                (rate(requests, "router", "code", where='code=~"5.."'), "{{router}} {{code}}"),
                about="Responses 5xx per second. 502 and 504 are the ingress's own: the service is"
                " down or too slow. Others come from the service.",
            ),
            series(
                "Latency p50, p95 by router",
                "s",
                (quantile(0.5, duration, "router"), "p50 {{router}}"),
                (quantile(0.95, duration, "router"), "p95 {{router}}"),
                about="Duration of requests as the ingress measures it, with the network to the"
                " service. Compare it with the latency on the dashboard Service.",
            ),
        ),
        row(
            "Traces and logs",
            traces(
                "Traces through the ingress",
                '{ resource.service.name = "traefik" && kind = server }',
                about="Newest traces that begin at the ingress or pass through it.",
                width=12,
            ),
            lines(
                "Access log",
                '{service_name="traefik"}',
                about="Access log of the ingress, without headers and query strings.",
                width=12,
            ),
        ),
    )
