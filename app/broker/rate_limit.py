"""How fast each key may send notifications, in this process."""

import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from app.auth.keys import ApiKey
from app.errors import AppError


class RateLimitedError(AppError):
    """The key sends faster than it may; `wait_s` is when the next one passes, in whole seconds, at least 1."""

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
    """So many a minute, evenly spread, and `burst` of them at once."""

    per_minute: int
    burst: int


#: Twice of what one process was measured to send: it stops only who has run wild.
DEFAULT_RATE: Final = Rate(per_minute=2_000 * 60, burst=4_000)


class RateLimiter:
    """Counts by key; a key's own limit goes before the default, and 0 is no limit."""

    def __init__(self, default: Rate = DEFAULT_RATE, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        #: By label: when one would be due had all before it been evenly spread (the cell rate algorithm's TAT).
        self._due_at: dict[str, float] = {}

    def count(self, api_key: ApiKey) -> None:
        """Count one notification; raises RateLimitedError, and then nothing is counted."""
        own = api_key.limits.notifications_per_minute
        if own == 0:
            return
        rate = self._default if own is None else Rate(own, own)
        now = self._clock()
        due_at = max(self._due_at.get(api_key.label, now), now) + 60 / rate.per_minute
        wait_s = due_at - now - rate.burst * 60 / rate.per_minute
        # What is below a microsecond is rounding.
        if wait_s > 1e-6:
            raise RateLimitedError(rate, wait_s)
        self._due_at[api_key.label] = due_at
