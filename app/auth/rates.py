"""Rate limits of API keys: a key's own limit holds for all API processes together, a default one for each process."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import msgspec

from app.auth.keys import ApiKey, Limits
from app.auth.sql import SQL
from app.db.shared import NotSharedError, SharedState
from app.errors import AppError


class RateLimitedError(AppError):
    """The key sends faster than it may. `retry_after_s` is the time to wait in whole seconds, at least 1."""

    code = "rate_limited"
    title = "Too many requests"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, rate: "Rate", wait_s: float, counted: str = "notifications") -> None:
        self.retry_after_s = max(1, math.ceil(wait_s))
        super().__init__(
            f"Rate limit exceeded: this key may send {rate.per_minute} {counted} a minute, {rate.burst} at once; "
            f"try again in {self.retry_after_s} s"
        )


class Rate(msgspec.Struct, frozen=True):
    """A rate: at most `burst` at once, and `per_minute` a minute, evenly spread."""

    per_minute: int
    burst: int


#: A shorter wait is an error of rounding: the database counts in microseconds.
_ROUNDING_S: Final = 1e-3


class KeyRates:
    """Counts what each key sends. A key's own limit takes precedence over the default; 0 means no limit.

    What a key with its own limit sends is counted in the database by one statement. What this process knows of the key
    refuses before the database is asked, and stands alone while the database is away.
    """

    def __init__(
        self,
        shared: SharedState,
        counted: str,
        own_limit: Callable[[Limits], int | None],
        statements: tuple[str, str],
        default: Rate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make counts by two SQL statements: one counts, the other returns when the next is due.

        `counted` is the plural of what is counted, for error messages.
        """
        self._shared = shared
        self._counted = counted
        self._own_limit = own_limit
        self._statements = statements
        self._default = default
        self._clock = clock
        #: By the key's label: time of the next one if all earlier ones had been evenly spread (the TAT of the generic
        #: cell rate algorithm).
        self._due_at: dict[str, float] = {}

    async def count(self, api_key: ApiKey) -> None:
        """Count one; raise RateLimitedError, without counting it, if it exceeds the key's rate."""
        own = self._own_limit(api_key.limits)
        if own is None:
            if self._default is not None:
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
            raise RateLimitedError(rate, wait_s, self._counted)
        self._due_at[label] = due_at

    async def _count_shared(self, label: str, rate: Rate) -> None:
        """Count in the database what is counted here already, and learn what other processes have counted."""
        asked_at = self._clock()
        spacing = timedelta(minutes=1 / rate.per_minute)
        try:
            counted = await self._shared.fetch(self._statements[0], label, spacing, rate.burst)
            due = counted or await self._shared.fetch(self._statements[1], label)
        except NotSharedError:
            return
        if not due:
            return  # the database has crashed in between, and the table is empty again
        # A process that is refused refuses by itself until then: a client out of control causes few queries.
        self._due_at[label] = asked_at + due[0]["due_s"]
        if not counted:
            raise RateLimitedError(rate, due[0]["due_s"] + (1 - rate.burst) * 60 / rate.per_minute, self._counted)


def upload_rates(shared: SharedState) -> KeyRates:
    """Return what counts the uploads of keys with a limit of their own; others have none."""
    statements = SQL["count_upload"], SQL["get_upload_rate"]
    return KeyRates(shared, "uploads", lambda limits: limits.uploads_per_minute, statements)
