"""Mute windows: times of the week, in a time zone, during which a rule sends no messages."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from app.clock import DAY_US, SECOND_US, from_us, to_us

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: In `days`: the days that `holidays` lists.
HOLIDAY = "holiday"

#: How far ahead the end of a mute is looked for. Windows that cover the whole week have no end.
HORIZON_DAYS = 8


class MuteWindow(msgspec.Struct, frozen=True):
    """A time of day from which, and one until which, a rule is muted. It ends on the next day if `to` is not later.

    `days` are the days on which the window begins.
    """

    days: tuple[Day | Literal["holiday"], ...] = DAYS
    #: Wall-clock times in microseconds since midnight.
    from_us: int = 0
    to_us: int = DAY_US
    tz: str = "UTC"
    #: The dates on which the window begins, first and last included; empty: every date.
    dates: tuple[tuple[date, date], ...] = ()
    #: Dates that count as `holiday`.
    holidays: tuple[tuple[date, date], ...] = ()
    #: The rule is muted outside of the window, and of all others like it.
    only: bool = False

    def begins_on(self, day: date) -> bool:
        """Return whether the window begins on a date of its time zone."""
        if self.dates and not _contains(self.dates, day):
            return False
        return DAYS[day.weekday()] in self.days or (HOLIDAY in self.days and _contains(self.holidays, day))


def is_muted(windows: Iterable[MuteWindow], at_us: int) -> bool:
    """Return whether any window covers the instant, or none of those with `only` does.

    The start of a window is included, its end is not.
    """
    listed = list(windows)
    outside = any(each.only for each in listed) and not any(_covers(each, at_us) for each in listed if each.only)
    return outside or any(_covers(each, at_us) for each in listed if not each.only)


def muted_until(windows: Iterable[MuteWindow], at_us: int) -> int | None:
    """Return when the mute that covers the instant ends, or None if none does. Adjacent windows count as one.

    The search ends about HORIZON_DAYS ahead; windows that cover the whole week are still muted at the returned time.
    """
    listed = list(windows)
    if not is_muted(listed, at_us):
        return None
    edges = {us for each in listed for span in _spans(each, at_us, days_ahead=HORIZON_DAYS) for us in span}
    later = sorted(us for us in edges if us > at_us)
    return next((us for us in later if not is_muted(listed, us)), later[-1] if later else at_us + HORIZON_DAYS * DAY_US)


def _covers(window: MuteWindow, at_us: int) -> bool:
    return any(start <= at_us < end for start, end in _spans(window, at_us, days_ahead=1))


def _contains(ranges: Iterable[tuple[date, date]], day: date) -> bool:
    return any(first <= day <= last for first, last in ranges)


def _spans(window: MuteWindow, at_us: int, days_ahead: int) -> Iterator[tuple[int, int]]:
    """Yield the spans [start, end) of the window that begin around `at_us`, in microseconds since 1970."""
    zone = _zone(window.tz)
    today = from_us(at_us).astimezone(zone).date()
    # Start two days back: a window lasts up to a day, and a zone may skip a whole date (Samoa, 2011).
    for offset in range(-2, days_ahead + 1):
        day = today + timedelta(days=offset)
        if window.begins_on(day):
            last = day if window.to_us > window.from_us else day + timedelta(days=1)
            yield _instant(day, window.from_us, zone, first=True), _instant(last, window.to_us, zone, first=False)


def _instant(day: date, time_us: int, zone: ZoneInfo, *, first: bool) -> int:
    """Return when the wall clock shows a time, in microseconds since 1970.

    For a time that the clock shows twice, return the first or the last one; for a skipped time, the moment of the jump.
    """
    wall = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(microseconds=time_us)
    before, after = (to_us(wall.replace(fold=fold).astimezone(UTC)) for fold in (0, 1))
    if before > after:
        return _jump_between(after, before, zone)
    return before if first else after


def _jump_between(low_us: int, high_us: int, zone: ZoneInfo) -> int:
    """Return the second at which the zone's offset changes between two instants, in microseconds since 1970."""
    low = low_us // SECOND_US
    offset = _offset_at(low, zone)
    later = range(low, high_us // SECOND_US + 1)
    return later[bisect_left(later, True, key=lambda second: _offset_at(second, zone) != offset)] * SECOND_US


def _offset_at(second: int, zone: ZoneInfo) -> timedelta | None:
    return from_us(second * SECOND_US).astimezone(zone).utcoffset()


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
