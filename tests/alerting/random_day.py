"""A day of random readings of twelve sensors, with rules for them as a rule file and as structs for the oracle."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sin, tau
from operator import itemgetter
from random import Random
from typing import Any, Literal

import msgspec

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.inside import Inside
from app.alerting.conditions.outside import Outside
from app.alerting.episodes.machine import Episode, Level, SeriesRule
from app.alerting.episodes.samples import StoredReading, ValueOf
from app.clock import HOUR_US, MINUTE_US, SECOND_US, rfc3339
from tests.alerting.oracle import oracle_episodes

#: Sensor name -> its readings in order of time. Readings of different sensors have different times.
Day = Mapping[str, Sequence[StoredReading]]

SITES = ("quay", "dock", "pier")
SENSORS = tuple(f"{site}-{number}" for site in SITES for number in range(1, 5))
SPACING_US = 2 * MINUTE_US
READINGS = 24 * HOUR_US // SPACING_US

#: `{url}` is the address of the receiver.
RULE_FILE = """
version: 1
channels:
  ops: {{type: webhook, url: "{url}/ops"}}
  duty: {{type: webhook, url: "{url}/duty"}}
defaults:
  group_by: [site]
  notify: [ops]
  late_data: {{accept: 2d, live: 15m, notify: summary}}
  remind_every: 30m
rules:
  - name: quay-warm
    sensors: {{metric: temperature, tags: {{site: quay}}}}
    value: last
    levels:
      warning: {{above: 8, for: 6m}}
      critical: {{above: 11, for: 2m, notify: [ops, duty]}}
    clear: {{below: 7, for: 4m}}
  - name: dock-rising
    sensors: {{id: "dock-*"}}
    value: rate 10m
    levels: {{info: {{above: 16}}, error: {{above: 22}}}}
    clear: {{below: 4, for: 4m}}
    notify: [duty]
  - name: pier-warm
    sensors: {{metric: temperature, tags: {{site: pier}}}}
    levels: {{warning: {{above: 8, for: 8m}}, error: {{above: 10.5, for: 4m}}}}
    max_gap: 4m
    late_data: {{accept: 2d, live: 15m, notify: normal}}
  - name: average
    sensors: {{metric: temperature}}
    value: avg 10m
    levels: {{warning: {{above: 8.5}}, disaster: {{above: 11.5}}}}
    clear: {{below: 8}}
  - name: outside
    sensors: {{id: "?*-1"}}
    levels: {{warning: {{outside: [4, 10], for: 2m}}}}
    clear: {{inside: [5, 9], for: 6m}}
    notify: [ops, duty]
  - name: cold
    sensors: {{metric: temperature, tags: {{site: dock}}}}
    value: min 6m
    levels: {{warning: {{below: 4.5}}}}
    clear: {{above: 5, for: 4m}}
    late_data: {{accept: 2d, live: 15m, notify: never}}
"""


class DayRule(msgspec.Struct, frozen=True):
    """One rule of RULE_FILE: the sensors that it selects, its conditions, and the channels of each level."""

    sensors: tuple[str, ...]
    series_rule: SeriesRule
    channels: Mapping[str, tuple[str, ...]]
    late_notify: Literal["summary", "normal", "never"] = "summary"


def _sensors_at(site: str) -> tuple[str, ...]:
    return tuple(sensor for sensor in SENSORS if sensor.startswith(site))


#: The rules of RULE_FILE by name.
RULES: Mapping[str, DayRule] = {
    "quay-warm": DayRule(
        _sensors_at("quay"),
        SeriesRule(
            ValueOf("last"),
            (Level("warning", Above(8), 6 * MINUTE_US), Level("critical", Above(11), 2 * MINUTE_US)),
            Below(7),
            4 * MINUTE_US,
        ),
        {"warning": ("ops",), "critical": ("ops", "duty")},
    ),
    "dock-rising": DayRule(
        _sensors_at("dock"),
        SeriesRule(
            ValueOf("rate", 10 * MINUTE_US),
            (Level("info", Above(16)), Level("error", Above(22))),
            Below(4),
            4 * MINUTE_US,
        ),
        {"info": ("duty",), "error": ("duty",)},
    ),
    "pier-warm": DayRule(
        _sensors_at("pier"),
        SeriesRule(
            ValueOf("last"),
            (Level("warning", Above(8), 8 * MINUTE_US), Level("error", Above(10.5), 4 * MINUTE_US)),
            max_gap_us=4 * MINUTE_US,
        ),
        {"warning": ("ops",), "error": ("ops",)},
        late_notify="normal",
    ),
    "average": DayRule(
        SENSORS,
        SeriesRule(
            ValueOf("avg", 10 * MINUTE_US), (Level("warning", Above(8.5)), Level("disaster", Above(11.5))), Below(8)
        ),
        {"warning": ("ops",), "disaster": ("ops",)},
    ),
    "outside": DayRule(
        tuple(f"{site}-1" for site in SITES),
        SeriesRule(ValueOf("last"), (Level("warning", Outside(4, 10), 2 * MINUTE_US),), Inside(5, 9), 6 * MINUTE_US),
        {"warning": ("ops", "duty")},
    ),
    "cold": DayRule(
        _sensors_at("dock"),
        SeriesRule(ValueOf("min", 6 * MINUTE_US), (Level("warning", Below(4.5)),), Above(5), 4 * MINUTE_US),
        {"warning": ("ops",)},
        late_notify="never",
    ),
}


def random_day(end_us: int, rng: Random) -> Day:
    """Make the readings of the 24 hours before `end_us`: a noisy sine around 7.5 with some gaps for each sensor."""
    return {sensor: _random_series(end_us, rng) for sensor in SENSORS}


def expected_episodes(day: Day) -> dict[tuple[str, str], list[Episode]]:
    """Compute the episodes by (rule, sensor) with the oracle, from all readings at once."""
    return {
        (name, sensor): oracle_episodes(rule.series_rule, day[sensor])
        for name, rule in RULES.items()
        for sensor in rule.sensors
    }


def shuffled_uploads(day: Day, late_h: float, rng: Random) -> list[list[dict[str, Any]]]:
    """Cut the day into upload bodies in random order; a tenth of the bodies comes twice.

    A body holds runs of consecutive readings of one or more sensors. Each run arrives up to `late_h` hours late:
    with few hours, a sensor's readings arrive roughly in order with holes; with 24 hours, in any order.
    """
    runs = [
        (readings[0][0] + rng.uniform(0, late_h) * HOUR_US, _as_posted(sensor, readings))
        for sensor in day
        for readings in _cut(day[sensor], rng)
    ]
    arriving = [readings for _, readings in sorted(runs, key=itemgetter(0))]
    uploads = []
    while arriving:
        count = rng.choice((1, 5, 20, 60))
        uploads.append([reading for readings in arriving[:count] for reading in readings])
        rng.shuffle(uploads[-1])
        arriving = arriving[count:]
    for again in rng.sample(uploads, k=len(uploads) // 10):
        uploads.insert(rng.randint(0, len(uploads)), again)
    return uploads


def _random_series(end_us: int, rng: Random) -> list[StoredReading]:
    period, phase = rng.uniform(90, 180), rng.uniform(0, tau)
    noise, readings = 0.0, []
    off = {hole + n for hole in rng.sample(range(READINGS), k=6) for n in range(rng.randint(1, 12))}
    for number in range(READINGS):
        t = end_us - (READINGS - number) * SPACING_US + rng.randrange(100 * SECOND_US)
        noise = 0.7 * noise + rng.gauss(0, 0.8)
        if number not in off:
            readings.append((t, round(7.5 + 2.5 * sin(tau * number / period + phase) + noise, 2)))
    return readings


def _as_posted(sensor: str, readings: Iterable[StoredReading]) -> list[dict[str, Any]]:
    tags = {"site": sensor.partition("-")[0]}
    return [
        {"sensor": sensor, "time": rfc3339(us), "values": {"temperature": value}, "tags": tags}
        for us, value in readings
    ]


def _cut(readings: Sequence[StoredReading], rng: Random) -> Iterator[Sequence[StoredReading]]:
    while readings:
        size = rng.choice((1, 1, 1, 2, 5, 20))
        yield readings[:size]
        readings = readings[size:]
