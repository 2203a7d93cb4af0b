"""The dashboards of grafana/dashboards, and functions that read their panels, queries and variables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
PATHS = sorted(FOLDER.glob("*.json"))
Json = dict[str, Any]


class Query(msgspec.Struct, frozen=True):
    """One query of one panel."""

    panel: str
    ref: str
    format: str
    sql: str
    max_data_points: int = 500
    min_interval_ms: int = 1_000


def load(path: Path) -> Json:
    """Read a dashboard's JSON."""
    dashboard: Json = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    return dashboard


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield all panels, including those of collapsed rows, but not the rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def queries(dashboard: Json) -> list[Query]:
    """Return the queries of all panels."""
    return [
        Query(
            panel["title"],
            target["refId"],
            target["format"],
            target["rawSql"],
            panel.get("maxDataPoints", 500),
            {"1s": 1_000, "1m": 60_000}[panel.get("interval", "1s")],
        )
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def variables(dashboard: Json) -> dict[str, Json]:
    """Return the variables by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}
