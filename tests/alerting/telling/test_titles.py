"""Titles count alerts by level, the worst first, and name what they have in common."""

from typing import Any

import pytest

from app.alerting.telling.changes import by_series
from app.alerting.telling.decisions import Action, ActionKind
from app.alerting.telling.titles import title
from tests.alerting.situations import NOON_US, episode, situation

OVER: dict[str, Any] = {"resolved_us": NOON_US - 1}


def titled(*given: tuple[ActionKind, dict[str, Any]]) -> str:
    """Return the title of actions, each given as its kind and fields of its episode."""
    made = [(kind, episode(number, **fields)) for number, (kind, fields) in enumerate(given, 1)]
    actions = [Action("ops", "g", each, kind, False) for kind, each in made]
    return title(situation(*(each for _, each in made)), by_series(actions))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([("firing", {})], "1 warning: warm · quay"),
        (
            [("firing", {}), ("raised", {"level": "critical"}), ("firing", {})],
            "1 critical, 2 warning: warm · quay",
        ),
        ([("again", {"level": "error"}), ("reminder", {})], "1 error again, 1 warning still firing: warm · quay"),
        ([("resolved", OVER), ("summary", OVER)], "1 resolved, 1 over: warm · quay"),
        ([("firing", {"kind": "no_data"})], "1 without data: warm · quay"),
        (
            [("reminder", {"kind": "no_data", "series_id": None, "sensor": None})],
            "1 still offline: warm · quay",
        ),
        ([("firing", {"tags": {}})], "1 warning: warm"),
    ],
)
def test_title_counts_alerts_by_what_is_told_of_them(given: list[tuple[ActionKind, dict[str, Any]]], text: str) -> None:
    assert titled(*given) == text
