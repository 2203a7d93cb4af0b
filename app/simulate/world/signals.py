"""The values of a sensor as functions of time: a daily curve, slow wander, noise and rare excursions.

A value depends only on the seed, the sensor, the metric and the time. So the same readings are made however they are
batched, delayed or repeated on the way to the server.
"""

from math import cos, pi, sin

import msgspec

from app.clock import DAY_US, HOUR_US, MINUTE_US
from app.simulate.world.chance import fraction, key_of, noise

#: Time of the day, in UTC, at which the daily curve has its maximum.
WARMEST_US = 15 * HOUR_US
_WANDER_PERIODS_US = (47 * MINUTE_US, 7 * HOUR_US)


class Excursion(msgspec.Struct, frozen=True):
    """A fault that happens once in every `every_us`: the value changes by `change`, stays there, and comes back."""

    what: str
    change: float
    every_us: int
    rise_us: int
    hold_us: int
    fall_us: int
    #: Its beginning in the demo, counted from the demo's start; negative: before the start.
    demo_offset_us: int

    def share(self, since_us: int) -> float:
        """Return the fraction of `change`, from 0 to 1, that is in effect `since_us` after the beginning."""
        if since_us < self.rise_us:
            return _smooth(since_us / self.rise_us)
        since_us -= self.rise_us + self.hold_us
        return 1 - _smooth(min(max(since_us / self.fall_us, 0.0), 1.0))


class SignalShape(msgspec.Struct, frozen=True):
    """The normal course of a metric in one kind of place, and its excursion."""

    mean: float
    daily_swing: float
    wander: float
    noise: float
    digits: int
    excursion: Excursion | None = None


class Signal:
    """One metric of one sensor as a function of time, in microseconds since 1970.

    `course` identifies the source of the wander and of the excursions: the sensor itself, or the weather, which
    several sensors share.
    """

    def __init__(
        self,
        shape: SignalShape,
        seed: int,
        sensor: str,
        metric: str,
        course: str,
        demo_start_us: int | None,
        calm_until_us: int | None = None,
    ) -> None:
        """In a demo, excursions begin near its start, or with `calm_until_us` at some time after that."""
        self.excursion = shape.excursion
        self._shape = shape
        self._noise = key_of(seed, sensor, metric, "noise")
        self._course = key_of(seed, course, metric)
        self._phases = [2 * pi * fraction(self._course, number) for number in range(len(_WANDER_PERIODS_US))]
        self._begins_us = self._first_excursion(demo_start_us, calm_until_us)
        #: In a demo there is no excursion before the first one, so that its history makes no alerts.
        self._is_calm_before = demo_start_us is not None or calm_until_us is not None

    def value(self, time_us: int) -> float:
        """Return the value that the sensor measures at a time."""
        shape = self._shape
        warmth = cos(2 * pi * (time_us - WARMEST_US) / DAY_US)
        wander = sum(
            sin(2 * pi * time_us / period + phase)
            for period, phase in zip(_WANDER_PERIODS_US, self._phases, strict=True)
        )
        value = shape.mean + shape.daily_swing * warmth + shape.wander * wander / len(_WANDER_PERIODS_US)
        if self.excursion is not None and not self._is_before_all(time_us):
            value += self.excursion.change * self.excursion.share(self._since_us(time_us))
        return round(value + shape.noise * noise(self._noise, time_us), shape.digits)

    def is_in_excursion(self, time_us: int) -> bool:
        """Return whether an excursion has begun and the value does not come back yet."""
        excursion = self.excursion
        if excursion is None or self._is_before_all(time_us):
            return False
        return self._since_us(time_us) < excursion.rise_us + excursion.hold_us

    def excursion_at(self, time_us: int) -> str | None:
        """Return which fault has begun and does not end yet."""
        return self.excursion.what if self.excursion is not None and self.is_in_excursion(time_us) else None

    def _since_us(self, time_us: int) -> int:
        assert self.excursion is not None  # noqa: S101 -- its callers check that
        return (time_us - self._begins_us) % self.excursion.every_us

    def _is_before_all(self, time_us: int) -> bool:
        return self._is_calm_before and time_us < self._begins_us

    def _first_excursion(self, demo_start_us: int | None, calm_until_us: int | None) -> int:
        if self.excursion is None:
            return 0
        if demo_start_us is not None:
            return demo_start_us + self.excursion.demo_offset_us
        return (calm_until_us or 0) + int(fraction(self._course, -1) * self.excursion.every_us)


def _smooth(share: float) -> float:
    return share * share * (3 - 2 * share)
