"""Silences cover episodes by their labels, and a closed alert opens again when its level rises."""

from typing import Any

import pytest

from app.alerting.telling.untold import Silence
from tests.alerting.situations import episode


@pytest.mark.parametrize(
    ("matchers", "covers"),
    [
        ({"rule": "warm"}, True),
        ({"rule": "w*"}, True),
        ({"rule": "cold"}, False),
        ({"level": "warning", "metric": "temp*"}, True),
        ({"level": "warning", "metric": "humidity"}, False),
        ({"sensor": "freezer-?"}, True),
        ({"gateway": "other"}, False),
        ({"tags": {"site": "q*"}}, True),
        ({"tags": {"site": "quay", "room": "cold"}}, False),
        # An episode without the tag has an empty one.
        ({"tags": {"room": ""}}, True),
    ],
)
def test_silence_covers_an_episode_when_all_of_its_matchers_match(matchers: dict[str, Any], covers: bool) -> None:
    assert Silence(1, matchers).covers(episode(1)) == covers


def test_label_is_empty_when_the_episode_has_none() -> None:
    of_gateway = episode(1, sensor=None, series_id=None, tags=None)
    assert [of_gateway.label(name) for name in ("sensor", "gateway", "site")] == ["", "gw", ""]
    assert of_gateway.is_of_gateway
    # A tag does not hide a label of the same name.
    assert episode(1, tags={"metric": "x"}).label("metric") == "temperature"


@pytest.mark.parametrize(
    ("closed_level", "level", "is_closed"),
    [(None, "warning", False), ("warning", "warning", True), ("error", "warning", True), ("warning", "error", False)],
)
def test_alert_stays_closed_until_its_level_rises(closed_level: str | None, level: str, is_closed: bool) -> None:
    assert episode(1, level=level, closed_level=closed_level).is_closed == is_closed
