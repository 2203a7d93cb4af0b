"""Devices of the demo that measure no weather: doors, meters, tanks, and a gauge that is stuck.

As for all sensors, a value depends on the time alone.
"""

from typing import Protocol

import msgspec

from app.clock import DAY_US, HOUR_US, MINUTE_US


class Course(Protocol):
    """One metric of one sensor as a function of time, in microseconds since 1970."""

    def value(self, time_us: int) -> float:
        """Return the value that the sensor measures at a time."""
        ...

    def excursion_at(self, time_us: int) -> str | None:
        """Return which fault has begun and does not end yet."""
        ...


class Spell(msgspec.Struct, frozen=True):
    """What happens again and again: it begins at `begin_us` and at each multiple of `every_us` from there."""

    what: str
    begin_us: int
    duration_us: int
    every_us: int = DAY_US

    def covers(self, time_us: int) -> bool:
        """Return whether it is under way."""
        return (time_us - self.begin_us) % self.every_us < self.duration_us

    def overlap_us(self, from_us: int, to_us: int) -> int:
        """Return for how much of a time it is under way, if that time is not longer than `every_us`."""
        first_us = from_us - (from_us - self.begin_us) % self.every_us
        spells = (first_us, first_us + self.every_us)
        return sum(max(min(at + self.duration_us, to_us) - max(at, from_us), 0) for at in spells)


class Door(msgspec.Struct, frozen=True):
    """1 while it is open, 0 while it is shut."""

    opened: Spell

    def value(self, time_us: int) -> float:
        """Return whether the door is open."""
        return float(self.opened.covers(time_us))

    def excursion_at(self, time_us: int) -> str | None:
        """Return that the door is open."""
        return self.opened.what if self.opened.covers(time_us) else None


class Meter(msgspec.Struct, frozen=True):
    """A counter of litres. It counts from 0 again after each `reset`."""

    per_hour: float
    leak: Spell
    leak_per_hour: float
    reset: Spell

    def value(self, time_us: int) -> float:
        """Return the whole litres since the last reset."""
        since_us = (time_us - self.reset.begin_us) % self.reset.every_us
        leaked_us = self.leak.overlap_us(time_us - since_us, time_us)
        return float((self.per_hour * since_us + self.leak_per_hour * leaked_us) // HOUR_US)

    def excursion_at(self, time_us: int) -> str | None:
        """Return that water runs."""
        return self.leak.what if self.leak.covers(time_us) else None


class Tank(msgspec.Struct, frozen=True):
    """The level of a tank in whole percent, which falls by one in each `step_us` until the tank is filled again."""

    filled: Spell
    step_us: int = 4 * MINUTE_US

    def value(self, time_us: int) -> float:
        """Return the level."""
        return float(100 - (time_us - self.filled.begin_us) % self.filled.every_us // self.step_us)

    def excursion_at(self, time_us: int) -> str | None:
        """Return None: a tank empties every day."""
        return None


class StuckGauge(msgspec.Struct, frozen=True):
    """Another course, whose value stays the same while the gauge is stuck."""

    course: Course
    stuck: Spell

    def value(self, time_us: int) -> float:
        """Return the value, or that at the time at which it got stuck."""
        since_us = (time_us - self.stuck.begin_us) % self.stuck.every_us
        return self.course.value(time_us - since_us if self.stuck.covers(time_us) else time_us)

    def excursion_at(self, time_us: int) -> str | None:
        """Return that the gauge is stuck."""
        return self.stuck.what if self.stuck.covers(time_us) else None
