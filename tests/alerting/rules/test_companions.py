"""The series of a second metric that count for a series: those of its sensor, or of sensors with equal tags."""

from app.alerting.conditions.above import Above
from app.alerting.conditions.equals import Equals
from app.alerting.episodes.machine import Level, SecondMetric, SeriesRule
from app.alerting.episodes.samples import ValueOf
from app.alerting.episodes.timed import Companion
from app.alerting.rules.companions import MOST_COMPANIONS, CompanionIndex, CompanionSeries
from app.model import SeriesId, Tags

CLOSED = Equals(0.0)
MINUTE_US = 60_000_000


def rule(*same: str) -> SeriesRule:
    when = SecondMetric("door", CLOSED, MINUTE_US, same)
    return SeriesRule(ValueOf(), (Level("warning", Above(8.0), 0),), when=(when,))


def door(number: int, sensor: str, tags: Tags | None = None) -> CompanionSeries:
    return CompanionSeries(SeriesId(number), sensor, "door", tags or {})


def found(index: CompanionIndex, tags: Tags, *same: str) -> tuple[list[int], list[str]]:
    problems: list[str] = []
    companions = index.companions("freezer", tags, rule(*same), problems)
    assert all(each == Companion(each.series_id, CLOSED, MINUTE_US, "door") for each in companions)
    return [each.series_id for each in companions], problems


def test_companion_is_the_metric_of_the_same_sensor_when_no_tags_are_named() -> None:
    index = CompanionIndex([door(1, "freezer"), door(2, "cellar"), CompanionSeries(SeriesId(3), "freezer", "x", {})])
    assert found(index, {}) == ([1], [])


def test_companions_are_of_all_sensors_with_equal_tags_when_tags_are_named() -> None:
    cold, warm = {"room": "cold", "site": "a"}, {"room": "warm"}
    index = CompanionIndex([door(3, "c", {"room": "cold"}), door(1, "a", cold), door(2, "b", warm), door(4, "d")])
    assert found(index, {"room": "cold"}, "room") == ([1, 3], [])
    assert found(index, cold, "room", "site") == ([1], [])
    assert found(index, {}, "room") == ([], [])


def test_too_many_companions_are_a_problem_and_none_counts() -> None:
    index = CompanionIndex([door(number, f"s{number}", {"room": "cold"}) for number in range(1, MOST_COMPANIONS + 2)])
    companions, problems = found(index, {"room": "cold"}, "room")
    assert companions == []
    assert problems == [
        'when: freezer has 9 series of "door" with the same room; at most 8 are possible, so none is looked at'
    ]
