"""The dashboards as they lie in grafana/dashboards, and what tests ask of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
PATHS = sorted(FOLDER.glob("*.json"))
Json = dict[str, Any]


class Query(msgspec.Struct, frozen=True):
    """One query of one panel, or of a variable (then `panel` is the variable's name)."""

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
    """Give all panels but rows, those of collapsed rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def queries(dashboard: Json) -> list[Query]:
    """Give the queries of all panels."""
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
    """Give the variables by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}
