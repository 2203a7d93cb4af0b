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
    """One query of one panel, or of the annotations (then `panel` is their name)."""

    panel: str
    ref: str
    format: str
    sql: str
    max_data_points: int = 500
    min_interval_ms: int = 1_000
    #: The variable for each of whose values the panel's section is repeated.
    repeated_for: str | None = None


def load(path: Path) -> Json:
    """Read a dashboard's JSON."""
    dashboard: Json = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    return dashboard


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield all panels but rows."""
    for panel, _ in _panels_and_repeats(dashboard):
        yield panel


def queries(dashboard: Json) -> list[Query]:
    """Return the queries of all panels and of the annotations."""
    annotations = [
        Query(annotation["name"], target["refId"], target["format"], target["rawSql"])
        for annotation in dashboard["annotations"]["list"]
        for target in [annotation["target"]]
    ]
    return annotations + [
        Query(
            panel["title"],
            target["refId"],
            target["format"],
            target["rawSql"],
            panel.get("maxDataPoints", 500),
            {"1s": 1_000, "1m": 60_000}[panel.get("interval", "1s")],
            panel.get("repeat") or repeat,
        )
        for panel, repeat in _panels_and_repeats(dashboard)
        for target in panel["targets"]
    ]


def variables(dashboard: Json) -> dict[str, Json]:
    """Return the variables by name."""
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def _panels_and_repeats(dashboard: Json) -> Iterator[tuple[Json, str | None]]:
    repeat = None
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            repeat = panel.get("repeat")
            assert panel["panels"] == [], "a collapsed section would hide its panels from these tests"
        else:
            yield panel, repeat
