"""Mute windows: hours of the week, on a wall clock somewhere, during which a rule does not make itself heard."""

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

#: How far ahead the end of a mute is looked for; windows that cover the whole week never end.
HORIZON_DAYS = 8


class MuteWindow(msgspec.Struct, frozen=True):
    """From one time of the day to another, on the days it begins on; past midnight where `to` is not later."""

    days: tuple[Day, ...] = DAYS
    #: Microseconds the wall clock shows since midnight.
    from_us: int = 0
    to_us: int = DAY_US
    tz: str = "UTC"


def is_muted(windows: Iterable[MuteWindow], at_us: int) -> bool:
    """Say whether any window covers the instant; a window begins inclusive and ends exclusive."""
    return any(start <= at_us < end for window in windows for start, end in _spans(window, at_us, days_ahead=1))


def muted_until(windows: Iterable[MuteWindow], at_us: int) -> int | None:
    """Find when the mute that covers the instant ends, windows that touch taken together; None when not muted.

    Looks about HORIZON_DAYS ahead: where windows cover the whole week, ask again then.
    """
    spans = sorted(span for window in windows for span in _spans(window, at_us, days_ahead=HORIZON_DAYS))
    end = at_us
    for span_start, span_end in spans:
        if span_start <= end < span_end:
            end = span_end
    return end if end > at_us else None


def _spans(window: MuteWindow, at_us: int, days_ahead: int) -> Iterator[tuple[int, int]]:
    """List the window's instants [start, end) that begin around `at_us`, in microseconds since 1970."""
    zone = _zone(window.tz)
    today = from_us(at_us).astimezone(zone).date()
    # Two days back: a window lasts up to a day, and zones have skipped a whole date (Samoa, 2011).
    for offset in range(-2, days_ahead + 1):
        day = today + timedelta(days=offset)
        if DAYS[day.weekday()] in window.days:
            last = day if window.to_us > window.from_us else day + timedelta(days=1)
            yield _instant(day, window.from_us, zone, first=True), _instant(last, window.to_us, zone, first=False)


def _instant(day: date, time_us: int, zone: ZoneInfo, *, first: bool) -> int:
    """Find when the wall clock shows a time: the first or the last moment of an hour that comes twice.

    An hour that is skipped is the moment of the jump.
    """
    wall = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(microseconds=time_us)
    before, after = (to_us(wall.replace(fold=fold).astimezone(UTC)) for fold in (0, 1))
    if before > after:
        return _jump_between(after, before, zone)
    return before if first else after


def _jump_between(low_us: int, high_us: int, zone: ZoneInfo) -> int:
    """Find the second at which the zone's offset changes between two instants."""
    low = low_us // SECOND_US
    offset = _offset_at(low, zone)
    later = range(low, high_us // SECOND_US + 1)
    return later[bisect_left(later, True, key=lambda second: _offset_at(second, zone) != offset)] * SECOND_US


def _offset_at(second: int, zone: ZoneInfo) -> timedelta | None:
    return from_us(second * SECOND_US).astimezone(zone).utcoffset()


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
