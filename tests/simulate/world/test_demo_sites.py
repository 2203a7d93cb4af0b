"""The sensors and gateways that only the demo has: the example rules fire for them, one after another."""

from itertools import pairwise

from app.alerting.episodes.samples import samples
from app.alerting.episodes.timed import Companion, Timing, run_timed
from app.alerting.language.files import load_rules
from app.alerting.rules.matching import RuleBook
from app.clock import HOUR_US, MINUTE_US, SECOND_US
from app.model import SeriesId
from app.simulate.world.demo_sites import OFFLINE_TOO, WRONG_CLOCK, demo_behaviours, demo_sensors
from app.simulate.world.devices import Spell
from app.simulate.world.sites import SimulatedSensor
from tests.conftest import project_folder

#: 2026-06-01T09:00:00Z
START_US = 1_780_304_400_000_000
HISTORY_US = 4 * HOUR_US


def readings_of(sensor: SimulatedSensor, until_us: int) -> list[tuple[int, float]]:
    """Return what a sensor sends, every twenty seconds, or only when it changes."""
    (course,) = sensor.signals.values()
    readings = [(time_us, course.value(time_us)) for time_us in range(START_US - HISTORY_US, until_us, 20 * SECOND_US)]
    if not sensor.reports_changes:
        return readings
    changes = [after for before, after in pairwise(readings) if after[1] != before[1]]
    return [readings[0], *changes]


def fired(minutes: int) -> dict[str, list[tuple[str, str, int, int | None]]]:
    """Return (rule, level, minute at which it fired, minute at which it ended) up to that minute of the demo."""
    book, until_us = RuleBook(load_rules(project_folder() / "rules", {})), START_US + minutes * MINUTE_US
    sensors = [each for every in demo_sensors(1, START_US).values() for each in every]
    door = next(readings_of(each, until_us) for each in sensors if each.name == "door-bakery")
    found: dict[str, list[tuple[str, str, int, int | None]]] = {}
    for sensor in sensors:
        (metric,) = sensor.signals
        for match in book.matches(sensor.name, metric, sensor.tags, None):
            rule = match.series_rule
            companions = tuple(Companion(SeriesId(1), each.condition, each.max_age_us) for each in rule.when)
            episodes = run_timed(
                rule,
                samples(rule.value, readings_of(sensor, until_us)),
                Timing(until_us, companions),
                [door] * len(companions),
            )
            for episode in episodes:
                end = None if episode.resolved_at is None else (episode.resolved_at - START_US) // MINUTE_US
                minute = (episode.fired_at - START_US) // MINUTE_US
                found.setdefault(sensor.name, []).append((match.rule.name, episode.level, minute, end))
    return found


def test_each_of_them_crosses_one_example_rule_at_another_minute() -> None:
    assert fired(30) == {
        "door-harbour": [("door-left-open", "warning", 2, 17)],
        "tank-dairy": [("tank-nearly-empty", "warning", 1, 27)],
        "cold-room-bakery": [("cold-room-warms-up", "critical", 7, 17)],
        "water-bakery": [("water-runs", "warning", 8, None)],
        "wind-harbour": [("gauge-stuck", "info", 4, None)],
    }


def test_gateways_of_the_demo_have_a_wrong_clock_or_go_offline_with_another() -> None:
    behaviours = demo_behaviours(1, START_US)
    assert (behaviours[WRONG_CLOCK].skew_us, behaviours[WRONG_CLOCK].has_history) == (-600_000_000, False)
    offline = behaviours[OFFLINE_TOO].offline
    assert offline is not None
    assert [offline.cover(START_US + minute * MINUTE_US) for minute in (3, 4, 11, 12)] == [False, True, True, False]


def test_meter_counts_on_after_a_reset() -> None:
    meter = next(each for each in demo_sensors(1, START_US)["gw-bakery"] if each.name == "water-bakery")
    litres = [meter.measure(START_US + round(minute * MINUTE_US))["water"] for minute in (2.9, 3, 4, 15)]
    # 20 an hour, and 120 more until minute 12.
    assert litres == [141.0, 0.0, 2.0, 22.0]


def test_overlap_counts_each_spell_within_a_time() -> None:
    spell = Spell("", 10, 5, 100)
    assert [spell.overlap_us(*span) for span in ((0, 10), (0, 12), (12, 14), (12, 112), (15, 110))] == [0, 2, 2, 5, 0]
