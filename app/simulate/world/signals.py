"""What a sensor would measure at any time: a daily curve, slow wandering, noise, and now and then an excursion.

A value depends on the seed, the sensor, the metric and the time alone. So however readings are batched, delayed or
sent twice, the same ones are made.
"""

from math import cos, pi, sin

import msgspec

from app.clock import DAY_US, HOUR_US, MINUTE_US
from app.simulate.world.chance import fraction, key_of, noise

#: Days are warmest at this hour, UTC.
WARMEST_US = 15 * HOUR_US
_WANDER_PERIODS_US = (47 * MINUTE_US, 7 * HOUR_US)


class Excursion(msgspec.Struct, frozen=True):
    """Something that goes wrong every `every_us`: the value leaves by `change`, stays, and comes back."""

    what: str
    change: float
    every_us: int
    rise_us: int
    hold_us: int
    fall_us: int
    #: Where it begins in the demo, counted from the demo's start: before it when negative.
    cue_us: int

    def share(self, since_us: int) -> float:
        """Give how much of the change there is so long after the beginning, from 0 to 1."""
        if since_us < self.rise_us:
            return _smooth(since_us / self.rise_us)
        since_us -= self.rise_us + self.hold_us
        return 1 - _smooth(min(max(since_us / self.fall_us, 0.0), 1.0))


class Shape(msgspec.Struct, frozen=True):
    """What is normal for a metric in a kind of place."""

    mean: float
    daily_swing: float
    wander: float
    noise: float
    digits: int
    excursion: Excursion | None = None


class Signal:
    """One metric of one sensor as a function of time, in microseconds since 1970.

    `course` names what wandering and excursions belong to: the sensor itself, or the weather that several share.
    """

    def __init__(self, shape: Shape, seed: int, sensor: str, metric: str, course: str, cued_at_us: int | None) -> None:
        self.excursion = shape.excursion
        self._shape = shape
        self._noise = key_of(seed, sensor, metric, "noise")
        self._course = key_of(seed, course, metric)
        self._phases = [2 * pi * fraction(self._course, number) for number in range(len(_WANDER_PERIODS_US))]
        self._begins_us = self._first_excursion(cued_at_us)

    def value(self, time_us: int) -> float:
        """Give the value that the sensor shows at a time."""
        shape = self._shape
        warmth = cos(2 * pi * (time_us - WARMEST_US) / DAY_US)
        wander = sum(
            sin(2 * pi * time_us / period + phase)
            for period, phase in zip(_WANDER_PERIODS_US, self._phases, strict=True)
        )
        value = shape.mean + shape.daily_swing * warmth + shape.wander * wander / len(_WANDER_PERIODS_US)
        if self.excursion is not None:
            value += self.excursion.change * self.excursion.share(self._since_us(time_us))
        return round(value + shape.noise * noise(self._noise, time_us), shape.digits)

    def is_out(self, time_us: int) -> bool:
        """Tell whether an excursion is on its way out, or stays."""
        found = self.excursion
        return found is not None and self._since_us(time_us) < found.rise_us + found.hold_us

    def _since_us(self, time_us: int) -> int:
        assert self.excursion is not None  # noqa: S101 -- its callers have looked
        return (time_us - self._begins_us) % self.excursion.every_us

    def _first_excursion(self, cued_at_us: int | None) -> int:
        if self.excursion is None:
            return 0
        if cued_at_us is not None:
            return cued_at_us + self.excursion.cue_us
        return int(fraction(self._course, -1) * self.excursion.every_us)


def _smooth(share: float) -> float:
    return share * share * (3 - 2 * share)
