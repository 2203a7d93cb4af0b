"""Clocks and conversions between the two forms of time: aware UTC datetimes and whole microseconds since 1970."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

#: A reading whose time is more than this ahead of now is pending: it is stored, but it does not count yet.
PENDING_AFTER_US = 5 * SECOND_US

Clock = Callable[[], int]
_SLOW_ANSWER_NS = 1_000_000_000
#: A clock that is this much behind the newest time was set back. Times that are assigned ahead of it never reach this.
_SET_BACK_US = 10 * SECOND_US


class DatabaseClock:
    """The database's clock: read from time to time, and continued by this machine's monotonic clock in between.

    All processes of a database agree on this time, and a change of the wall clock does not move it. Before the first
    answer of the database, it is the wall clock.
    """

    def __init__(self) -> None:
        self._ahead_ns = time.time_ns() - time.monotonic_ns()

    def now_us(self) -> int:
        """Return the time in microseconds since 1970."""
        return (time.monotonic_ns() + self._ahead_ns) // 1_000

    def follow(self, database_us: int, asked_ns: int, answered_ns: int) -> None:
        """Adopt the time that the database answered; ignore a slow answer. The other times are of the monotonic clock.

        The clock was read between the two, so it is known to within half of the time between them.
        """
        if answered_ns - asked_ns <= _SLOW_ANSWER_NS:
            self._ahead_ns = database_us * 1_000 - (asked_ns + answered_ns) // 2

    def skew_s(self) -> float:
        """Return by how many seconds the wall clock of this machine is ahead; negative when it is behind."""
        return (time.time_ns() // 1_000 - self.now_us()) / SECOND_US


#: The clock of this process, which works with one database.
database_clock = DatabaseClock()
now_us = database_clock.now_us


def now() -> datetime:
    """Return the time of the database's clock, as `now_us` does."""
    return from_us(now_us())


def to_us(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970, without rounding."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND_US + delta.microseconds


def from_us(us: int) -> datetime:
    """Convert microseconds since 1970 to an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=us)


def rfc3339(us: int) -> str:
    """Format microseconds since 1970 as RFC 3339 in UTC with `Z`; a fraction of zero is left out."""
    return f"{(_NAIVE_EPOCH + timedelta(microseconds=us)).isoformat()}Z"


class DistinctClock:
    """A clock that never returns the same microsecond twice, so that readings stamped on receipt stay apart.

    It goes back only when the clock behind it was set back by more than 10 seconds. Otherwise, after a step of an hour,
    all readings of that hour would follow each other by a microsecond. It may be used by several threads.
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
            now = self._clock()
            first = now if now < self._last - _SET_BACK_US else max(now, self._last + 1)
            self._last = first + max(count, 1) - 1
            return first

    def skip_to(self, us: int) -> None:
        """Return only times after `us` from now on, because the caller has assigned the times up to `us` itself."""
        with self._lock:
            self._last = max(self._last, us)
