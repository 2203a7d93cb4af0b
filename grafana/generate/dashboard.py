"""A whole dashboard: variables, annotations, links, and panels placed from left to right."""

from collections.abc import Iterable, Sequence
from typing import Any

from grafana.generate.sources import DATASOURCE
from grafana.generate.variables import datasource

Json = dict[str, Any]
COLUMNS = 24


def dashboard(
    uid: str,
    title: str,
    description: str,
    *,
    since: str,
    variables: Sequence[Json],
    alerts: str,
    panels: Iterable[Json],
    links: Sequence[Json] = (),
    timezone: str = "browser",
) -> Json:
    """Return a dashboard's JSON; `since` is the start of its default range, `alerts` the SQL of its annotations."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["tidegauge"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": timezone,
        "weekStart": "",
        "refresh": "1m",
        "time": {"from": since, "to": "now"},
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m", "1h"]},
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "preload": False,
        "links": [_OTHERS, *links],
        "annotations": {"list": [_alerts(alerts)]},
        "templating": {"list": [datasource(), *variables]},
        "panels": place(panels),
    }


def place(panels: Iterable[Json]) -> list[Json]:
    """Return the panels with ids and places: from left to right, on a new line where the width is used up."""
    placed = []
    x = y = line_height = 0
    for number, panel in enumerate(panels, start=1):
        width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > COLUMNS:
            x, y, line_height = 0, y + line_height, 0
        placed.append({"id": number, **panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, line_height = x + width, max(line_height, height)
    return placed


def link(title: str, url: str, tooltip: str) -> Json:
    """Return a link at the head of a dashboard."""
    return {
        "type": "link",
        "title": title,
        "url": url,
        "tooltip": tooltip,
        "icon": "external link",
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
        "asDropdown": False,
        "tags": [],
    }


def _alerts(sql: str) -> Json:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "target": {
            "refId": "Alerts",
            "editorMode": "code",
            "rawQuery": True,
            "format": "table",
            "rawSql": sql,
        },
    }


_OTHERS: Json = {
    "type": "dashboards",
    "title": "Tidegauge",
    "tags": ["tidegauge"],
    "asDropdown": True,
    "includeVars": False,
    "keepTime": True,
    "targetBlank": False,
    "icon": "external link",
    "tooltip": "The other dashboards of Tidegauge",
    "url": "",
}
