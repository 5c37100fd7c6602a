"""A dashboard for each runbook of docs/runbooks/, so that an alert leads to it without the checkout."""

from pathlib import Path

from panels import board, series, text

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def dashboards():
    for file in sorted(RUNBOOKS.glob("*.md")):
        title, _, words = file.read_text().removeprefix("# ").partition("\n")
        alert = series(
            "State of the alert",
            "short",
            (f'count by (alertstate, severity) (ALERTS{{alertname="{title}"}})', "{{severity}} {{alertstate}}"),
            about="When the alert was pending or fired.",
            width=24,
        )
        made = board(f"runbook-{title.lower()}", f"Runbook: {title}", "What to do when this alert fires.")
        yield made.tags(["runbook"]).with_panel(text(words, height=22)).with_panel(alert)
