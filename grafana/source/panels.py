"""Panel types shared by all dashboards, built with the Grafana Foundation SDK."""

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
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType

# The uids are set in grafana/provisioning/datasources/stack.yaml.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
LOKI = DataSourceRef(type_val="loki", uid="loki")
TEMPO = DataSourceRef(type_val="tempo", uid="tempo")

TAG = "bookapp"


def board(uid, title, description, *, variables=()):
    """An empty dashboard with links to all other dashboards."""
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
        .annotation(
            dashboard.AnnotationQuery()
            .name("Alerts")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertstate="firing", severity=~"page|ticket"}')
        )
        .readonly()
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def choice(name, label, metric):
    """A dashboard variable that lists the values of one label of a metric."""
    query = f"label_values({metric}, {name})"
    made = dashboard.QueryVariable(name).label(label).datasource(PROMETHEUS).query(query)
    return made.refresh(VariableRefresh.ON_DASHBOARD_LOAD)


def row(title, *panels):
    """A row title and the panels of the row."""
    return dashboard.Row(title), panels


def fill(made, *rows):
    """Adds rows and their panels to the dashboard."""
    for title, panels in rows:
        made = made.with_row(title)
        for panel in panels:
            made = made.with_panel(panel)
    return made


def rate(metric, *by, where=""):
    """PromQL: the rate per second, grouped by the given labels."""
    by = f" by ({', '.join(by)})" if by else ""
    return f"sum{by} (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share, histogram, *by, where=""):
    """PromQL: a quantile of a histogram, grouped by the given labels; a share of 0.95 is p95."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', 'le', *by, where=where)})"


def share(part, whole):
    """PromQL: the ratio of part to whole; 0 if the part has no series."""
    return f"({part} or {whole} * 0) / {whole}"


def series(title, unit, *queries, about, width=8, exemplars=False, stacked=False):
    """A time series panel; each query is a pair of PromQL and legend."""
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
    """A stat panel with the newest value; `states` maps values to names and colors."""
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
    """A stat panel with a count of log records."""
    target = loki.Dataquery().expr(query).query_type("instant")
    panel = number(title, "short", about=about, width=width, height=height)
    return panel.datasource(LOKI).no_value("0").with_target(target)


def lines(title, query, *, about, width=24, height=9):
    """A logs panel, newest record first; trace ids are links."""
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
    """A time series panel with counts of log records."""
    panel = series(title, "short", about=about, width=width, stacked=True).datasource(LOKI)
    return panel.with_target(loki.Dataquery().expr(query).legend_format(legend).query_type("range"))


def traces(title, query, *, about, width=24, height=9):
    """A table of the newest traces that match a TraceQL query; trace ids are links."""
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


def firing(title, *, about, width=24, height=6):
    """A table of the active alerts."""
    query = (
        prometheus.Dataquery()
        .expr('max by (severity, alertname, service_name) (ALERTS{alertstate="firing"})')
        .format(PromQueryFormat.TABLE)
        .instant()
    )
    return (
        table_panel.Panel()
        .title(title)
        .description(about)
        .datasource(PROMETHEUS)
        .span(width)
        .height(height)
        .with_target(query)
    )


def service_map(title, *, about, width=24, height=11):
    """The service graph from the collector's metrics; every node and edge is a link."""
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
    """A text panel in Markdown."""
    return text_panel.Panel().title("").content(markdown).span(width).height(height)
