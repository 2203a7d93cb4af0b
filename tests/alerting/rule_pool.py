"""Random rules that `check` accepts, on small grids, so that equal times and equal values are frequent."""

from functools import lru_cache
from random import Random
from typing import Literal, get_args

from app.alerting.conditions import Condition
from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.equals import Equals
from app.alerting.conditions.inside import Inside
from app.alerting.conditions.outside import Outside
from app.alerting.episodes.machine import Level, SeriesRule
from app.alerting.episodes.samples import ValueOf
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.rules.model import Clear, LevelRule, Rule, RuleSet, Selector, Terms, When
from app.clock import HOUR_US, MINUTE_US
from tests.alerting.oracle import ORDER, meets

#: Times of readings are multiples of half a unit, durations are multiples of a whole unit.
UNIT_US = 10 * MINUTE_US
Kind = Literal["last", "avg", "min", "max", "rate", "delta", "increase", "range"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def _conditions(scale: float) -> list[Condition]:
    grid = [scale * threshold for threshold in range(6)]
    pairs = [(lo, hi) for lo in grid for hi in grid if lo <= hi]
    singles: list[Condition] = [kind(value) for value in grid for kind in (Above, Below, Equals)]
    return [*singles, *(kind(lo, hi) for lo, hi in pairs for kind in (Inside, Outside))]


class Pool:
    """All conditions on one grid. Which ones imply or exclude each other is found by trying values."""

    def __init__(self, scale: float) -> None:
        self.all = _conditions(scale)
        values = [scale * half / 2 for half in range(-2, 13)]
        self._met = {each: frozenset(v for v in values if meets(each, v)) for each in self.all}

    def implying(self, wide: Condition) -> list[Condition]:
        return [each for each in self.all if self._met[each] <= self._met[wide]]

    def excluding(self, other: Condition) -> list[Condition]:
        return [each for each in self.all if not self._met[each] & self._met[other]]


@lru_cache
def pool_of(scale: float) -> Pool:
    """Return the conditions whose thresholds are multiples of a scale."""
    return Pool(scale)


POOL = pool_of(1.0)
#: The hourly rate of a change by 1 in one unit.
RATE_SCALE = HOUR_US / UNIT_US
RATE_POOL = pool_of(RATE_SCALE)


def scale_of(rule: SeriesRule, scale: float = 1.0) -> float:
    """Return the scale of the thresholds of a rule for readings on a grid of this scale."""
    return RATE_SCALE if rule.value.kind == "rate" else scale


def as_rule(name: str, sensor: str, series_rule: SeriesRule) -> Rule:
    """Return a rule that selects one sensor and has these terms."""
    levels = tuple(LevelRule(level.name, level.condition, level.for_us) for level in series_rule.levels)  # type: ignore[arg-type]
    clear = Clear(series_rule.clear, series_rule.clear_for_us)
    when = tuple(When(each.metric, each.condition, each.max_age_us, each.same) for each in series_rule.when)
    terms = Terms(
        levels=levels,
        value=series_rule.value,
        clear=clear,
        max_gap_us=series_rule.max_gap_us,
        holds=series_rule.holds,
        when=when,
    )
    return Rule(name, Selector(id=sensor, metric="m"), terms)


def as_match(series_rule: SeriesRule) -> Match:
    """Return the match of a series with a rule that has these terms."""
    (match,) = RuleBook(RuleSet((as_rule("r", "s", series_rule),))).matches("s", "m", {}, None)
    return match


def random_rule(rng: Random, scale: float = 1.0) -> SeriesRule:
    kind = rng.choice(("last", *KINDS))
    window_us = 0 if kind == "last" else rng.choice((1, 1, 2, 3, 4)) * UNIT_US
    pool = RATE_POOL if kind == "rate" else pool_of(scale)
    levels = _random_levels(rng, pool)
    return SeriesRule(
        value=ValueOf(kind, window_us, counter=kind == "rate" and rng.random() < 0.5),
        levels=levels,
        clear=rng.choice([None, *pool.excluding(levels[0].condition)]) if rng.random() < 0.7 else None,
        clear_for_us=rng.choice((0, 1, 2, 3, 8)) * UNIT_US,
        max_gap_us=rng.choice((None, None, UNIT_US, 2 * UNIT_US, 3 * UNIT_US)),
    )


def _random_levels(rng: Random, pool: Pool) -> tuple[Level, ...]:
    names = sorted(rng.sample(ORDER, rng.choice((1, 2, 2, 3))), key=ORDER.index)
    condition = rng.choice(pool.all)
    levels = []
    for name in names:
        levels.append(Level(name, condition, rng.choice((0, 0, 1, 1, 2, 3, 8)) * UNIT_US))
        condition = rng.choice(pool.implying(condition))
    return tuple(levels)
