"""A second, independent reading of the specification, for every kind of rule: dense and driven by tables.

It takes a sample at every time at which anything could happen, whether or not a clock is due then: at each stored
reading, each reading of a companion, each end of what is known, and each of these plus each duration. A sample between
two of those can change nothing, so more of them give the same episodes. Nothing is found by walking back: each row of
the table follows from the one before.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import fsum
from typing import NamedTuple

from app.alerting.conditions import Condition
from app.alerting.episodes.machine import Episode, SeriesRule, Step
from app.alerting.episodes.samples import StoredReading
from app.alerting.episodes.timed import Companion

SEVERITIES = ("info", "warning", "error", "critical", "disaster")
Readings = Sequence[StoredReading]


class Moment(NamedTuple):
    """A time in an era: what is compared then (None: nothing counts), and whether the second metrics allow it."""

    t: int
    value: float | None
    allowed: bool
    is_stored: bool
    #: A companion has a reading.
    is_companion: bool


def episodes(
    rule: SeriesRule,
    arrived: Readings,
    companions: Sequence[tuple[Companion, Readings]] = (),
    horizon_us: int = 0,
    inherited: Episode | None = None,
) -> list[Episode]:
    """Return the episodes of one era."""
    known = [(companion, _kept(readings)) for companion, readings in companions]
    return _run(rule, list(_moments(rule, _kept(arrived), known, horizon_us)), inherited)


def _kept(arrived: Readings) -> dict[int, float]:
    """Return the value of each time: the one that came first."""
    return dict(sorted(dict(reversed(arrived)).items()))


def _compared(rule: SeriesRule, readings: dict[int, float], t: int) -> float | None:
    kind, w = rule.value.kind, rule.value.window_us
    if kind == "last":
        return readings[t]
    half_open = [value for s, value in readings.items() if t - w < s <= t]
    closed = {s: value for s, value in readings.items() if t - w <= s <= t}
    first = min(closed)
    if kind == "avg":
        return fsum(half_open) / len(half_open)
    if kind in ("min", "max"):
        return {"min": min, "max": max}[kind](half_open)
    if (t - first) * 2 < w:
        return None
    if kind == "range":
        return max(closed.values()) - min(closed.values())
    if kind == "delta":
        return closed[t] - closed[first]
    per_hour = 3_600_000_000
    if kind == "rate" and not rule.value.counter:
        return (closed[t] - closed[first]) * per_hour / (t - first)
    rises = fsum(b if b < a else b - a for a, b in pairwise(closed.values()))
    return rises if kind == "increase" else rises * per_hour / (t - first)


def _moments(
    rule: SeriesRule, readings: dict[int, float], companions: Sequence[tuple[Companion, dict[int, float]]], h: int
) -> Iterable[Moment]:
    stored = {t: value for t in readings if (value := _compared(rule, readings, t)) is not None}
    of_companions = {u for _, known in companions for u in known}
    ends = {u + companion.max_age_us + 1 for companion, known in companions for u in known}
    starts = {*stored, *of_companions, *ends}
    durations = {rule.clear_for_us, *(level.for_us for level in rule.levels)}
    for t in sorted({*starts, *(start + d for start in starts for d in durations)}):
        allowed = all(_fits(companion, known, t) for companion, known in companions)
        if t in stored:
            yield Moment(t, stored[t], allowed, is_stored=True, is_companion=t in of_companions)
            continue
        before = max((s for s in stored if s < t), default=None)
        is_held = rule.holds and before is not None and t <= min(h, before + (rule.max_gap_us or 0))
        value = stored[before] if is_held and before is not None else None
        yield Moment(t, value, allowed, is_stored=False, is_companion=t in of_companions)


def _fits(companion: Companion, known: dict[int, float], t: int) -> bool:
    newest = max((u for u in known if u <= t), default=None)
    if newest is None or t - newest > companion.max_age_us:
        return True
    return _is(companion.condition, known[newest])


def _is(condition: Condition, value: float) -> bool:
    numbers = [getattr(condition, name) for name in condition.__struct_fields__]  # type: ignore[attr-defined]
    low, high = min(numbers), max(numbers)
    meets: dict[str, bool] = {
        "Above": value > high,
        "Below": value < low,
        "Inside": low <= value <= high,
        "Outside": value < low or value > high,
        "Equals": value == low,
    }
    return meets[type(condition).__name__]


def _run(rule: SeriesRule, moments: Sequence[Moment], inherited: Episode | None) -> list[Episode]:
    done: list[Episode] = []
    now = inherited
    running: dict[str, int] = {}
    clear_since: int | None = None
    last_stored: int | None = None
    for moment in moments:
        if moment.is_companion and not moment.allowed:
            running.clear()
        if moment.value is None:
            continue
        gap = moment.is_stored and last_stored is not None and rule.max_gap_us is not None
        if gap and moment.t - (last_stored or 0) > (rule.max_gap_us or 0):
            running.clear()
            clear_since = None
        last_stored = moment.t if moment.is_stored else last_stored
        met = [level for level in rule.levels if moment.allowed and _is(level.condition, moment.value)]
        running = {level.name: running.get(level.name, moment.t) for level in met}
        reached = [level.name for level in met if moment.t - running[level.name] >= level.for_us]
        is_clear = rule.levels[0] not in met if rule.clear is None else _is(rule.clear, moment.value)
        clear_since = (moment.t if clear_since is None else clear_since) if is_clear and now is not None else None
        worst = max(reached, key=SEVERITIES.index, default=None)
        if now is None and worst is not None:
            now = Episode(running[rule.levels[0].name], moment.t, None, (Step(worst, moment.t),))
        elif now is not None and worst is not None and SEVERITIES.index(worst) > SEVERITIES.index(now.level):
            now = Episode(now.started_at, now.fired_at, None, (*now.steps, Step(worst, moment.t)))
        elif now is not None and clear_since is not None and moment.t - clear_since >= rule.clear_for_us:
            done.append(Episode(now.started_at, now.fired_at, moment.t, now.steps))
            now = clear_since = None
    return done if now is None else [*done, now]
