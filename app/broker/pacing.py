"""How fast each key may send, and pacing of the destinations whose service asked for it."""

import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from app.auth.keys import ApiKey
from app.broker.request import Target
from app.errors import AppError
from app.notify.pacing import Pacer, SendLimit
from app.notify.transport import TransientError


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


#: A destination that asked to wait is sent to no faster than its service documents for this long.
PACED_FOR_S: Final = 60.0
#: A longer Retry-After is tried again after this: a proxy may have said it of an hour of maintenance.
HOLD_LIMIT_S: Final = 60.0
_LANES_KEPT: Final = 1_024


class _Lane(msgspec.Struct):
    """A destination that is paced until `until`, and how many wait for their turn there."""

    until: float
    waiting: int = 0


class AskedPacing:
    """Knows which destinations asked to be spared, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pacer = Pacer(clock)
        self._lanes: dict[str, _Lane] = {}

    async def turn(self, target: Target, within_s: float) -> None:
        """Wait until the destination takes a message; raises TransientError at once when that is too late."""
        lane = self._lanes.get(target.destination)
        if lane is None:
            return
        limits = target.channel.limits(target.config)
        # Whoever cannot have a turn in time is told so now, rather than be kept in memory until then.
        wait_s = self._pacer.wait_s(*limits) + lane.waiting * limits[0].every_s
        if wait_s > within_s:
            raise TransientError(f"{target.service} has asked to wait, {math.ceil(wait_s)} s from now on")
        if lane.until < self._clock() and not wait_s:
            del self._lanes[target.destination]
            return
        await self._queue(lane, limits)

    def hold(self, target: Target, delay_s: float) -> None:
        """Send nothing there for `delay_s` seconds, and slowly afterwards."""
        hold_s = min(delay_s, HOLD_LIMIT_S)
        self._pacer.hold(target.channel.limits(target.config)[0].key, hold_s)
        until = self._clock() + hold_s + PACED_FOR_S
        lane = self._lanes.setdefault(target.destination, _Lane(until))
        lane.until = until
        if len(self._lanes) > _LANES_KEPT:
            self._drop_idle()

    @property
    def known_destinations(self) -> int:
        """How many destinations are remembered just now."""
        return len(self._lanes)

    async def _queue(self, lane: _Lane, limits: tuple[SendLimit, ...]) -> None:
        lane.waiting += 1
        try:
            await self._pacer.turn(*limits)
        finally:
            lane.waiting -= 1

    def _drop_idle(self) -> None:
        now = self._clock()
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.waiting or lane.until >= now}
