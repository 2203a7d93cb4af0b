"""Panels: what each kind shows and how, without their place."""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana.generate.sources import DATASOURCE

Json = dict[str, Any]

LEVEL_COLORS = {"info": "blue", "warning": "yellow", "error": "orange", "critical": "red", "disaster": "dark-red"}
STATE_COLORS = {"ok": "green", "late": "yellow", "silent": "orange", "alert": "red", "retired": "gray"}
STATE_COLORS |= {"offline": "red", "dead": "red", "failed": "orange"}
#: Kinds of values that have a unit of Grafana's own.
AGE, COUNT, PERCENT, SHARE = "s", "short", "percent", "percentunit"
BARE = "none"
MISSING = "no data"


def row(title: str, repeat: str | None = None) -> Json:
    """Return the head of a section, once for each value of the variable `repeat`."""
    head: Json = {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}
    return head | {"repeat": repeat, "repeatDirection": "h"} if repeat else head


def table_of(sql: str, ref: str = "A") -> Json:
    """Return a query whose answer is shown as it is."""
    return _target(sql, ref, "table")


def series_of(sql: str, ref: str = "A") -> Json:
    """Return a query for lines: `time`, then a value a column, or `metric` and one value."""
    return _target(sql, ref, "time_series")


def stat(
    title: str,
    description: str,
    size: tuple[int, int],
    targets: Sequence[Json],
    *,
    unit: str | None,
    steps: Mapping[float, str] | None = None,
    colors: Mapping[str, str] | None = None,
    every_column: bool = False,
) -> Json:
    """Return one number, or one for each column of a row; `steps` give the colour from a value on."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/", "values": False},
        "orientation": "auto",
        "textMode": "value_and_name" if every_column else "value",
        "wideLayout": False,
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "center",
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
    }
    defaults: Json = {"thresholds": _thresholds(steps or {}), "color": {"mode": "thresholds"}}
    if colors:
        defaults["mappings"] = _mappings(colors)
    return _panel("stat", title, description, size, targets, unit, defaults, options)


def chart(
    title: str,
    description: str,
    size: tuple[int, int],
    targets: Sequence[Json],
    *,
    unit: str | None,
    overrides: Sequence[Json] = (),
    custom: Json | None = None,
    min_interval: str = "1s",
) -> Json:
    """Return lines over time, 500 points wide."""
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": False},
    }
    line = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
    }
    defaults = {"color": {"mode": "palette-classic"}, "custom": {**line, **(custom or {})}}
    return _panel("timeseries", title, description, size, targets, unit, defaults, options, overrides) | {
        "interval": min_interval,
        "maxDataPoints": 500,
    }


def table(
    title: str,
    description: str,
    size: tuple[int, int],
    target: Json,
    *,
    overrides: Sequence[Json] = (),
) -> Json:
    """Return rows of a query; columns that hold numbers get their unit by an override."""
    options = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""}}
    defaults: Json = {"custom": {"align": "auto", "filterable": True, "cellOptions": {"type": "auto"}}}
    return _panel("table", title, description, size, [target], BARE, defaults, options, overrides)


def bars(
    title: str,
    description: str,
    size: tuple[int, int],
    targets: Sequence[Json],
    *,
    unit: str | None,
    scheme: str = "continuous-BlYlRd",
    limits: tuple[float, float] | None = None,
) -> Json:
    """Return a bar for each row of a query: its text column names it, its number is its length."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "text",
        "namePlacement": "left",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "maxVizHeight": 32,
        "reduceOptions": {"calcs": [], "fields": "", "values": True, "limit": 50},
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }
    defaults: Json = {"color": {"mode": scheme}, "thresholds": _thresholds({})}
    if limits:
        defaults |= {"min": limits[0], "max": limits[1]}
    return _panel("bargauge", title, description, size, targets, unit, defaults, options)


def timeline(title: str, description: str, size: tuple[int, int], target: Json) -> Json:
    """Return a state timeline of ranks of levels, one line for each `metric` of the query."""
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.85,
        "perPage": 20,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none", "hideZeros": False},
    }
    ranks = {"0": {"text": "none", "color": "transparent", "index": 0}}
    for rank, (level, color) in enumerate(LEVEL_COLORS.items(), start=1):
        ranks[str(rank)] = {"text": level, "color": color, "index": rank}
    defaults = {
        "color": {"mode": "thresholds"},
        "thresholds": _thresholds({}),
        "mappings": [{"type": "value", "options": ranks}],
        # Another line's change leaves a null here, which is no change of this line.
        "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": True, "insertNulls": False},
    }
    return _panel("state-timeline", title, description, size, [target], BARE, defaults, options)


def heatmap(title: str, description: str, size: tuple[int, int], target: Json) -> Json:
    """Return a coloured cell for each series and point, 120 points wide; series are rows, in the order of the query."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"decimals": 1},
        "color": {
            "mode": "scheme",
            "scheme": "Turbo",
            "steps": 64,
            "reverse": False,
            "fill": "dark-orange",
            "exponent": 0.5,
        },
        "filterValues": {},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "yAxis": {"axisPlacement": "left", "reverse": True},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": True},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
    }
    defaults: Json = {"custom": {"scaleDistribution": {"type": "linear"}}}
    return _panel("heatmap", title, description, size, [target], BARE, defaults, options) | {
        "interval": "1m",
        "maxDataPoints": 120,
    }


def with_unit(panel: Json, sql: str, fields: str | None = None) -> Json:
    """Return a panel whose numbers, or fields that match a regular expression, take their unit from a query."""
    fit = {"id": "byRegexp", "options": fields} if fields else {"id": "byType", "options": "number"}
    settings = {
        "configRefId": "unit",
        "applyTo": fit,
        "mappings": [{"fieldName": "unit", "handlerKey": "unit"}],
    }
    return panel | {
        "targets": [*panel["targets"], table_of(sql, "unit")],
        "transformations": [*panel.get("transformations", []), {"id": "configFromData", "options": settings}],
    }


def over_range(panel: Json, points: int) -> Json:
    """Return a panel without a time axis that reads the relation for its range as if it were `points` wide."""
    return panel | {"interval": "1m", "maxDataPoints": points}


def field(name: str, **properties: Any) -> Json:
    """Return an override for one column or line; `custom__x` stands for the property custom.x."""
    return _override({"id": "byName", "options": name}, properties)


def fields(pattern: str, **properties: Any) -> Json:
    """Return an override for columns or lines whose names match a regular expression."""
    return _override({"id": "byRegexp", "options": pattern}, properties)


def lines_of(ref: str, **properties: Any) -> Json:
    """Return an override for all lines of one query."""
    return _override({"id": "byFrameRefID", "options": ref}, properties)


def colored(name: str, colors: Mapping[str, str]) -> Json:
    """Return an override that colours a column of words."""
    return field(name, mappings=_mappings(colors), custom__cellOptions={"type": "color-text"}, custom__width=90)


def linked(name: str, title: str, url: str) -> Json:
    """Return an override that makes a column's cells links."""
    return field(name, links=[{"title": title, "url": url, "targetBlank": False}])


def _override(matcher: Json, properties: Mapping[str, Any]) -> Json:
    listed = [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()]
    return {"matcher": matcher, "properties": listed}


def _target(sql: str, ref: str, form: str) -> Json:
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "rawQuery": True,
        "format": form,
        "rawSql": sql,
    }


def _panel(
    kind: str,
    title: str,
    description: str,
    size: tuple[int, int],
    targets: Sequence[Json],
    unit: str | None,
    defaults: Json,
    options: Json,
    overrides: Sequence[Json] = (),
) -> Json:
    unit_default = {"unit": unit} if unit else {}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "gridPos": {"w": size[0], "h": size[1]},
        "datasource": DATASOURCE,
        "targets": list(targets),
        "fieldConfig": {"defaults": {"noValue": MISSING, **unit_default, **defaults}, "overrides": list(overrides)},
        "options": options,
    }


def _thresholds(steps: Mapping[float, str]) -> Json:
    base: list[Json] = [{"color": "text", "value": None}]
    return {"mode": "absolute", "steps": base + [{"color": color, "value": value} for value, color in steps.items()]}


def _mappings(colors: Mapping[str, str]) -> list[Json]:
    options = {word: {"text": word, "color": color, "index": i} for i, (word, color) in enumerate(colors.items())}
    return [{"type": "value", "options": options}]
