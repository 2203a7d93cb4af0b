"""Test oracle: a second, naive implementation of the rules' semantics that keeps no state.

It was written from the specification alone and shares only the structs with the program. Every sample looks at all
readings and every clock is found by walking back, so the cost grows with the square of the history's length.
"""

from collections.abc import Iterable, Sequence
from math import fsum

from app.alerting.conditions import Condition
from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.conditions.inside import Inside
from app.alerting.conditions.outside import Outside
from app.alerting.episodes.machine import Episode, Level, SeriesRule, Step
from app.alerting.episodes.samples import Sample, StoredReading, ValueOf
from app.clock import HOUR_US

ORDER = ["info", "warning", "error", "critical", "disaster"]


def oracle_episodes(
    rule: SeriesRule, arrived: Iterable[StoredReading], inherited: Episode | None = None
) -> list[Episode]:
    """Return the episodes of one era. `arrived` are its readings in order of arrival."""
    samples = oracle_samples(rule.value, arrived)
    closed: list[Episode] = []
    episode, fired_at = inherited, -1
    for i, sample in enumerate(samples):
        holding = [level for level in rule.levels if level_holds(rule, level, samples, i)]
        if episode is None:
            if holding:
                started_at = clock_start(rule, rule.levels[0].condition, samples, i)
                assert started_at is not None
                step = Step(holding[-1].name, sample.t)
                episode, fired_at = Episode(started_at, sample.t, None, (step,)), sample.t
        elif holding and ORDER.index(holding[-1].name) > ORDER.index(episode.level):
            steps = (*episode.steps, Step(holding[-1].name, sample.t))
            episode = Episode(episode.started_at, episode.fired_at, None, steps)
        elif clears(rule, samples, i, since=fired_at):
            closed.append(Episode(episode.started_at, episode.fired_at, sample.t, episode.steps))
            episode = None
    return [*closed, episode] if episode is not None else closed


def oracle_samples(value_of: ValueOf, arrived: Iterable[StoredReading]) -> list[Sample]:
    """Return the samples of readings in order of arrival, at most one for each stored time."""
    readings = first_stored(arrived)
    values = [(t, sample_value(value_of, readings, t)) for t, _ in readings]
    return [Sample(t, value) for t, value in values if value is not None]


def first_stored(arrived: Iterable[StoredReading]) -> list[StoredReading]:
    """Return the readings in order of time. Of several readings with the same time, keep the one that arrived first."""
    first: dict[int, float] = {}
    for t, value in arrived:
        if t not in first:
            first[t] = value
    return sorted(first.items())


def sample_value(value_of: ValueOf, readings: Sequence[StoredReading], t: int) -> float | None:
    """Return the value of the sample at t, or None if there is none."""
    w = value_of.window_us
    if value_of.kind == "last":
        return dict(readings)[t]
    if value_of.kind in ("rate", "delta"):
        window = [(s, value) for s, value in readings if t - w <= s <= t]
        s, oldest = window[0]
        if t - s < w / 2:
            return None
        if value_of.counter:
            return total_increase([value for _, value in window]) * HOUR_US / (t - s)
        delta = dict(readings)[t] - oldest
        return delta if value_of.kind == "delta" else delta * HOUR_US / (t - s)
    if value_of.kind in ("increase", "range"):
        window = [(s, value) for s, value in readings if t - w <= s <= t]
        if t - window[0][0] < w / 2:
            return None
        values = [value for _, value in window]
        return total_increase(values) if value_of.kind == "increase" else max(values) - min(values)
    values = [value for s, value in readings if t - w < s <= t]
    if value_of.kind == "avg":
        return fsum(values) / len(values)
    return min(values) if value_of.kind == "min" else max(values)


def total_increase(values: Sequence[float]) -> float:
    """Return the sum of what a counter has grown by from each value to the next; a fall is a reset to 0."""
    grown = []
    for i in range(1, len(values)):
        a, b = values[i - 1], values[i]
        grown.append(b if b < a else b - a)
    return fsum(grown)


def meets(condition: Condition | None, value: float) -> bool:
    """Return whether the value meets the condition."""
    match condition:
        case Above(threshold):
            return value > threshold
        case Below(threshold):
            return value < threshold
        case Inside(lo, hi):
            return lo <= value <= hi
        case Outside(lo, hi):
            return not lo <= value <= hi
        case Equals(wanted):
            return value == wanted
    raise AssertionError(condition)


def is_hole_before(rule: SeriesRule, samples: Sequence[Sample], i: int) -> bool:
    """Return whether max_gap is set and the distance to the sample before is longer."""
    return rule.max_gap_us is not None and i > 0 and samples[i].t - samples[i - 1].t > rule.max_gap_us


def clock_start(rule: SeriesRule, condition: Condition, samples: Sequence[Sample], i: int) -> int | None:
    """Return when the clock of the condition that runs at sample i started, or None if it is stopped."""
    if not meets(condition, samples[i].value):
        return None
    while i > 0 and not is_hole_before(rule, samples, i) and meets(condition, samples[i - 1].value):
        i -= 1
    return samples[i].t


def level_holds(rule: SeriesRule, level: Level, samples: Sequence[Sample], i: int) -> bool:
    """Return whether the level's clock runs at sample i and has run for the level's duration."""
    start = clock_start(rule, level.condition, samples, i)
    return start is not None and samples[i].t - start >= level.for_us


def clears(rule: SeriesRule, samples: Sequence[Sample], i: int, since: int) -> bool:
    """Return whether `clear` has held for its duration at sample i, counting only samples after `since`."""

    def is_clear(sample: Sample) -> bool:
        if rule.clear is None:
            return not meets(rule.levels[0].condition, sample.value)
        return meets(rule.clear, sample.value)

    if not is_clear(samples[i]):
        return False
    first = i
    while first > 0 and samples[first - 1].t > since and not is_hole_before(rule, samples, first):
        if not is_clear(samples[first - 1]):
            break
        first -= 1
    return samples[i].t - samples[first].t >= rule.clear_for_us
