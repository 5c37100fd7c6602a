"""Dashboard "Objectives": error budgets and burn rates of the objectives in stack/slo/objectives/."""

from panels import board, fill, firing, row, series

OBJECTIVE = "{{sloth_service}} {{sloth_slo}}"


def dashboard():
    return fill(
        board(
            "objectives",
            "Objectives",
            "Error budgets of 7 days, how fast they are used, and active alerts.",
        ),
        row(
            "Error budgets",
            series(
                "Error budget left",
                "percentunit",
                ("slo:period_error_budget_remaining:ratio", OBJECTIVE),
                about="Share of the error budget of the last 7 days that is not used. Below 0, the"
                " objective is missed. A period with few requests counts as much as a busy one.",
                width=12,
            ),
            series(
                "Burn rate",
                "short",
                ("slo:current_burn_rate:ratio", OBJECTIVE),
                about="How many times faster than allowed the budget was used in the last 5"
                " minutes. At 1 it lasts exactly 7 days; from 16.8 a page follows.",
                width=12,
            ),
        ),
        row(
            "Failed share by window",
            series(
                "5 minutes",
                "percentunit",
                ("slo:sli_error:ratio_rate5m", OBJECTIVE),
                about="Share of requests or books that missed the objective in the last 5 minutes.",
            ),
            series(
                "1 hour",
                "percentunit",
                ("slo:sli_error:ratio_rate1h", OBJECTIVE),
                about="The same in the last hour. A page needs both windows.",
            ),
            series(
                "1 day",
                "percentunit",
                ("slo:sli_error:ratio_rate1d", OBJECTIVE),
                about="The same in the last day, for tickets.",
            ),
        ),
        row(
            "Alerting",
            firing(
                "Active alerts",
                about="Alerts that fire now. The watchdog always fires.",
                width=12,
                height=8,
            ),
            series(
                "Alerts sent to Alertmanager",
                "short",
                ("sum(rate(prometheus_notifications_sent_total[$__rate_interval]))", "sent"),
                (
                    "sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))",
                    "dropped",
                ),
                about="Alerts per second that Prometheus sends and drops. Dropped ones reached"
                " nobody: Alertmanager is away.",
                width=12,
            ),
        ),
    )
