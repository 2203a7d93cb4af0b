"""Values of alerts: what the rule compared when an alert fired, at its newest sample, and farthest past the threshold.

They are stored with the episode, so that they outlive the readings. Each round adds the samples since the last one.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from app.alerting.conditions import CONDITIONS, Condition, farthest
from app.alerting.episodes.samples import Sample, StoredReading, ValueOf, samples
from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.writing.sql import SQL
from app.clock import MINUTE_US
from app.db.pool import Connection
from app.model import SeriesId

#: Alerts whose values are computed in one round; the others come in the next ones, those that wait longest first.
MOST_ALERTS = 200
#: Samples of one alert that are added in one round.
MOST_SAMPLES = 5_000
#: Without a new peak, the values of an open alert are stored this often.
STORE_EVERY_US = MINUTE_US
#: The values of an alert are final this long after its end, by the times of readings. Until then, readings that are a
#: little out of order are looked for in each round.
FINAL_AFTER_US = 2 * MINUTE_US
#: Returns what the rule of this name compares for a series (rule, sensor, metric, tags, gateway), or None.
ValueOfRule = Callable[[str, str, str, Mapping[str, str], str | None], ValueOf | None]


class ValuedAlert(msgspec.Struct, frozen=True):
    """An alert whose values are not final; times in microseconds since 1970."""

    id: int
    rule: str
    series_id: SeriesId
    sensor: str
    metric: str
    tags: dict[str, str]
    gateway: str | None
    value_kind: str
    window_us: int
    condition: str | None
    threshold: Any
    started_us: int
    fired_us: int
    resolved_us: int | None
    #: Time of the newest reading of the series.
    last_us: int
    fired_value: float | None
    value: float | None
    peak: float | None
    peak_us: int | None
    valued_us: int | None

    @property
    def end_us(self) -> int:
        """The latest time that a sample of the alert can have by now."""
        return self.last_us if self.resolved_us is None else min(self.resolved_us, self.last_us)

    @property
    def past(self) -> Condition | None:
        """The condition of the alert's level, as stored with it."""
        kind = CONDITIONS.get(self.condition or "")
        if kind is None or self.threshold is None:
            return None
        return kind(*(self.threshold if isinstance(self.threshold, list) else (self.threshold,)))


async def update_values(connection: Connection, news: Mapping[SeriesId, News], value_of: ValueOfRule) -> None:
    """Store the values of alerts with new samples, in the transaction of the evaluation that took `news`."""
    late = [(series_id, first, last) for series_id, each in news.items() for first, last in _late_ranges(each)]
    if late:
        await connection.execute(SQL["value_again"], *map(list, zip(*late, strict=True)))
    alerts = [
        _with_news(msgspec.convert(dict(row), ValuedAlert), news)
        for row in await connection.fetch(SQL["list_valued_alerts"], list(news), MOST_ALERTS)
    ]
    readings = await _load_readings(connection, alerts, value_of)
    rows = [row for each in alerts if (row := _values(each, readings[each.id], _value_of(each, value_of))) is not None]
    if rows:
        await connection.execute(SQL["put_values"], *map(list, zip(*rows, strict=True)))


def _late_ranges(news: News) -> list[tuple[int, int]]:
    return [(part.first_us, part.last_us) for part in news.late]


def _with_news(alert: ValuedAlert, news: Mapping[SeriesId, News]) -> ValuedAlert:
    """Return the alert, set back so that its values are computed again from the earliest reading out of order."""
    own = news.get(alert.series_id)
    first = min((part.first_us for part in own.parts), default=None) if own is not None else None
    if first is None or alert.valued_us is None or first > alert.valued_us:
        return alert
    if alert.value_kind != "last" and alert.peak_us is not None and alert.peak_us >= first:
        return msgspec.structs.replace(alert, valued_us=None, peak=None, peak_us=None, value=None)
    return msgspec.structs.replace(alert, valued_us=first - 1)


def _value_of(alert: ValuedAlert, value_of: ValueOfRule) -> ValueOf:
    """Return what the alert's rule compares; what it compared when the alert changed last, if it is gone."""
    found = value_of(alert.rule, alert.sensor, alert.metric, alert.tags, alert.gateway)
    if found is not None:
        return found
    is_counter = alert.value_kind == "counter_rate"
    kind = "rate" if is_counter else alert.value_kind
    return msgspec.convert({"kind": kind, "window_us": alert.window_us, "counter": is_counter}, ValueOf)


async def _load_readings(
    connection: Connection, alerts: Sequence[ValuedAlert], value_of: ValueOfRule
) -> Mapping[int, list[StoredReading]]:
    """Return the readings of which each alert needs samples, by its id."""
    found: defaultdict[int, list[StoredReading]] = defaultdict(list)
    if not alerts:
        return found
    ranges = [
        (each.series_id, _from_us(each) - _value_of(each, value_of).window_us, _from_us(each), each.end_us)
        for each in alerts
    ]
    series_ids, starts, first_samples, ends = map(list, zip(*ranges, strict=True))
    rows = await connection.fetch(
        SQL["list_value_readings"], [each.id for each in alerts], series_ids, starts, first_samples, ends, MOST_SAMPLES
    )
    for row in rows:
        found[row["id"]].append((row["us"], row["value"]))
    return found


def _from_us(alert: ValuedAlert) -> int:
    """Return the time from which samples are needed."""
    return alert.started_us if alert.valued_us is None else alert.valued_us + 1


def _values(alert: ValuedAlert, readings: Sequence[StoredReading], value_of: ValueOf) -> tuple[Any, ...] | None:
    """Return the row to store, or None if nothing changes that is worth a write."""
    from_us, end_us = _from_us(alert), alert.end_us
    within = [sample for sample in samples(value_of, readings) if from_us <= sample.t <= end_us]
    fired = alert.fired_value
    if fired is None:
        # A value that is held fires between two readings.
        fired = next((sample.value for sample in reversed(within) if sample.t <= alert.fired_us), None)
    peak, peak_us = _peak(alert, within)
    value = within[-1].value if within else alert.value
    is_cut = sum(us >= from_us for us, _ in readings) >= MOST_SAMPLES
    valued_us = readings[-1][0] if is_cut else max(end_us, alert.valued_us or 0)
    is_final = not is_cut and alert.resolved_us is not None and alert.last_us > alert.resolved_us + FINAL_AFTER_US
    is_known = alert.resolved_us is None and alert.valued_us is not None and peak == alert.peak
    stored = alert.fired_value, alert.value, alert.peak, alert.valued_us
    if not is_final and stored == (fired, value, peak, valued_us):
        return None
    if is_known and alert.fired_value is not None and valued_us - (alert.valued_us or 0) < STORE_EVERY_US:
        return None
    return alert.id, fired, value, peak, peak_us, valued_us, is_final


def _peak(alert: ValuedAlert, within: Sequence[Sample]) -> tuple[float | None, int | None]:
    """Return the value farthest past the threshold and its time, the alert's own peak included."""
    condition = alert.past
    if condition is None or not within:
        return alert.peak, alert.peak_us
    known = [] if alert.peak is None else [Sample(alert.peak_us or alert.started_us, alert.peak)]
    candidates = (*known, *within)
    lowest, highest = min(candidates, key=_by_value), max(candidates, key=_by_value)
    peak = farthest(condition, lowest.value, highest.value)
    if peak is None:
        return None, None
    return peak, (highest if peak == highest.value else lowest).t


def _by_value(sample: Sample) -> float:
    return sample.value
