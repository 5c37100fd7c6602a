"""The kinds of panel our dashboards are made of, over Grafana's own typed builders."""

from grafana_foundation_sdk.builders import (
    dashboard,
    logs as logs_panel,
    loki,
    nodegraph,
    prometheus,
    stat as stat_panel,
    table as table_panel,
    tempo,
    text as text_panel,
    timeseries,
)
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
)
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    LogsSortOrder,
    StackingMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType
from grafana_foundation_sdk.models.dashboard import DataSourceRef, ValueMap, ValueMappingResult
from grafana_foundation_sdk.models.dashboard import VariableRefresh
from grafana_foundation_sdk.models.tempo import SearchTableType

# The uids that grafana/provisioning/datasources/stack.yaml fixes.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = DataSourceRef(type_val="loki", uid="loki")
TEMPO = DataSourceRef(type_val="tempo", uid="tempo")

TAG = "bookapp"


def board(uid, title, description, *, variables=()):
    """An empty dashboard that links to all others."""
    others = (
        dashboard.DashboardLink("").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    )
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .links([others])
        .time("now-15m", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def choice(name, label, metric):
    """A variable: one of the values that a label of a metric has."""
    query = f"label_values({metric}, {name})"
    made = dashboard.QueryVariable(name).label(label).datasource(PROMETHEUS).query(query)
    return made.refresh(VariableRefresh.ON_DASHBOARD_LOAD)


def row(title, *panels):
    """A title and the panels below it."""
    return dashboard.Row(title), panels


def fill(made, *rows):
    """The dashboard with these rows."""
    for title, panels in rows:
        made = made.with_row(title)
        for panel in panels:
            made = made.with_panel(panel)
    return made


def rate(metric, *by, where=""):
    """How often something happens a second, by these labels."""
    by = f" by ({', '.join(by)})" if by else ""
    return f"sum{by} (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share, histogram, *by, where=""):
    """The time that this share of what a histogram saw took at most, by these labels."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', 'le', *by, where=where)})"


def share(part, whole):
    """A part of a whole, 0 where there is none of it."""
    return f"({part} or {whole} * 0) / {whole}"


def series(title, unit, *queries, about, width=8, exemplars=False, stacked=False):
    """Lines over time; a query is PromQL and how its lines are called."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if stacked:
        panel = panel.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    for query, legend in queries:
        target = prometheus.Dataquery().expr(query).legend_format(legend).range()
        panel = panel.with_target(target.exemplar(exemplars))
    return panel


def number(title, unit, query=None, legend="", *, about, width=4, height=4, states=None):
    """The newest value, large; `states` gives values names."""
    panel = (
        stat_panel.Panel()
        .title(title)
        .description(about)
        .datasource(PROMETHEUS)
        .unit(unit)
        .span(width)
        .height(height)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if query:
        target = prometheus.Dataquery().expr(query).legend_format(legend).instant()
        panel = panel.with_target(target)
    if states:
        options = {
            str(value): ValueMappingResult(text=name, color=color)
            for value, (name, color) in states.items()
        }
        panel = panel.mappings([ValueMap(options=options)])
    return panel


def counted_lines(title, query, *, about, width=4, height=4):
    """Log lines counted, large."""
    target = loki.Dataquery().expr(query).query_type("instant")
    panel = number(title, "short", about=about, width=width, height=height)
    return panel.datasource(LOKI).no_value("0").with_target(target)


def lines(title, query, *, about, width=24, height=9):
    """Log lines, newest first; their trace ids are links."""
    return (
        logs_panel.Panel()
        .title(title)
        .description(about)
        .datasource(LOKI)
        .span(width)
        .height(height)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(LogsSortOrder.DESCENDING)
        .with_target(loki.Dataquery().expr(query).query_type("range").max_lines(100))
    )


def volume(title, query, legend, *, about, width=8):
    """Log lines counted over time."""
    panel = series(title, "short", about=about, width=width, stacked=True).datasource(LOKI)
    return panel.with_target(loki.Dataquery().expr(query).legend_format(legend).query_type("range"))


def traces(title, query, *, about, width=24, height=9):
    """The newest traces that a TraceQL query finds; their ids are links."""
    return (
        table_panel.Panel()
        .title(title)
        .description(about)
        .datasource(TEMPO)
        .span(width)
        .height(height)
        .with_target(
            tempo.TempoQuery()
            .query_type("traceql")
            .query(query)
            .limit(20)
            .table_type(SearchTableType.TRACES)
        )
    )


def service_map(title, *, about, width=24, height=11):
    """Who calls whom, as the collector sees it; every arrow and node is a link."""
    return (
        nodegraph.Panel()
        .title(title)
        .description(about)
        .datasource(TEMPO)
        .span(width)
        .height(height)
        .with_target(tempo.TempoQuery().query_type("serviceMap"))
    )


def text(markdown, *, width=24, height=5):
    """Words and links."""
    return text_panel.Panel().title("").content(markdown).span(width).height(height)
