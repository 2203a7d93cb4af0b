"""Rate limits of API keys: a key's own limit holds for all API processes together, the default one for each process."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import msgspec

from app.auth.keys import ApiKey
from app.broker.sql import SQL
from app.db.shared import NotSharedError, SharedState
from app.errors import AppError


class RateLimitedError(AppError):
    """The key sends faster than it may. `wait_s` is the time to wait in whole seconds, at least 1."""

    code = "rate_limited"
    title = "Too many requests"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, rate: "Rate", wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__(
            f"Rate limit exceeded: this key may send {rate.per_minute} notifications a minute, {rate.burst} at once; "
            f"try again in {self.wait_s} s"
        )


class Rate(msgspec.Struct, frozen=True):
    """At most `burst` notifications at once, and `per_minute` notifications a minute, evenly spread."""

    per_minute: int
    burst: int


#: Twice the highest rate that was measured for one process, so that it limits only clients that are out of control.
DEFAULT_RATE: Final = Rate(per_minute=2_000 * 60, burst=4_000)
#: A shorter wait is an error of rounding: the database counts in microseconds.
_ROUNDING_S: Final = 1e-3


class RateLimiter:
    """Counts notifications for each key. A key's own limit takes precedence over the default; 0 means no limit.

    A notification of a key with its own limit is counted in the database by one statement. Before that, this process
    refuses it if its own count exceeds the rate. While the database is away, its own count alone decides.
    """

    def __init__(
        self, shared: SharedState, default: Rate = DEFAULT_RATE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._default = default
        self._clock = clock
        #: By the key's label: time of the next notification if all earlier ones had been evenly spread (the TAT of the
        #: generic cell rate algorithm).
        self._due_at: dict[str, float] = {}

    async def count(self, api_key: ApiKey) -> None:
        """Count one notification; raise RateLimitedError, without counting it, if it exceeds the key's rate."""
        own = api_key.limits.notifications_per_minute
        if own is None:
            self._count_here(api_key.label, self._default)
        elif own > 0:
            rate = Rate(own, own)
            self._count_here(api_key.label, rate)
            await self._count_shared(api_key.label, rate)

    def _count_here(self, label: str, rate: Rate) -> None:
        now = self._clock()
        due_at = max(self._due_at.get(label, now), now) + 60 / rate.per_minute
        wait_s = due_at - now - rate.burst * 60 / rate.per_minute
        if wait_s > _ROUNDING_S:
            raise RateLimitedError(rate, wait_s)
        self._due_at[label] = due_at

    async def _count_shared(self, label: str, rate: Rate) -> None:
        """Count the notification in the database, too, and take over the counts of other processes."""
        asked_at = self._clock()
        spacing = timedelta(minutes=1 / rate.per_minute)
        try:
            counted = await self._shared.fetch(SQL["count_notification"], label, spacing, rate.burst)
            due = counted or await self._shared.fetch(SQL["get_notification_rate"], label)
        except NotSharedError:
            return
        if not due:
            return  # the database has crashed in between, and the table is empty again
        # Until then this process refuses without a query, so a client out of control causes few queries.
        self._due_at[label] = asked_at + due[0]["due_s"]
        if not counted:
            raise RateLimitedError(rate, due[0]["due_s"] + (1 - rate.burst) * 60 / rate.per_minute)
