"""Random rules that `check` accepts, on small grids, so that equal times and equal values are frequent."""

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
from app.clock import HOUR_US, MINUTE_US
from tests.alerting.oracle import ORDER, meets

#: Times of readings are multiples of half a unit, durations are multiples of a whole unit.
UNIT_US = 10 * MINUTE_US
Kind = Literal["last", "avg", "min", "max", "rate", "delta"]
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


POOL = Pool(1.0)
#: The hourly rate of a change by 1 in one unit.
RATE_SCALE = HOUR_US / UNIT_US
RATE_POOL = Pool(RATE_SCALE)


def random_rule(rng: Random) -> SeriesRule:
    kind = rng.choice(("last", *KINDS))
    window_us = 0 if kind == "last" else rng.choice((1, 1, 2, 3, 4)) * UNIT_US
    pool = RATE_POOL if kind == "rate" else POOL
    levels = _random_levels(rng, pool)
    return SeriesRule(
        value=ValueOf(kind, window_us),
        levels=levels,
        clear=rng.choice([None, *pool.excluding(levels[0].condition)]) if rng.random() < 0.7 else None,
        clear_for_us=rng.choice((0, 1, 2, 3, 4)) * UNIT_US,
        max_gap_us=rng.choice((None, None, UNIT_US, 2 * UNIT_US, 3 * UNIT_US)),
    )


def _random_levels(rng: Random, pool: Pool) -> tuple[Level, ...]:
    names = sorted(rng.sample(ORDER, rng.choice((1, 2, 2, 3))), key=ORDER.index)
    condition = rng.choice(pool.all)
    levels = []
    for name in names:
        levels.append(Level(name, condition, rng.choice((0, 0, 1, 1, 1, 2, 3)) * UNIT_US))
        condition = rng.choice(pool.implying(condition))
    return tuple(levels)
