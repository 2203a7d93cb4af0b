"""Clocks and conversions between the two forms of time: aware UTC datetimes and whole microseconds since 1970."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

Clock = Callable[[], int]


def now_us() -> int:
    """Return the time of the wall clock, in microseconds since 1970."""
    return time.time_ns() // 1_000


def to_us(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970, without rounding."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND_US + delta.microseconds


def from_us(us: int) -> datetime:
    """Convert microseconds since 1970 to an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=us)


def rfc3339(us: int) -> str:
    """Format microseconds since 1970 as RFC 3339 in UTC with `Z`; a fraction of zero is left out."""
    return from_us(us).isoformat().replace("+00:00", "Z")


class DistinctClock:
    """A wall clock that never returns the same microsecond twice, so that readings stamped on receipt stay apart.

    It may be used by several threads.
    """

    def __init__(self, clock: Clock = now_us) -> None:
        self._clock = clock
        self._last = 0
        self._lock = Lock()

    def __call__(self) -> int:
        return self.reserve(1)

    def reserve(self, count: int) -> int:
        """Take `count` times, each a microsecond after the one before, and return the first."""
        with self._lock:
            first = max(self._clock(), self._last + 1)
            self._last = first + max(count, 1) - 1
            return first

    def skip_to(self, us: int) -> None:
        """Return only times after `us` from now on, because the caller has assigned the times up to `us` itself."""
        with self._lock:
            self._last = max(self._last, us)
