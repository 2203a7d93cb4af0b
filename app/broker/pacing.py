"""Rate limits for each API key, and pacing of the destinations that asked to wait."""

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


#: Twice the rate at which one process was measured to send, so that it stops only clients that are out of control.
DEFAULT_RATE: Final = Rate(per_minute=2_000 * 60, burst=4_000)


class RateLimiter:
    """Counts notifications for each key. A key's own limit takes precedence over the default; 0 means no limit."""

    def __init__(self, default: Rate = DEFAULT_RATE, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        #: By the key's label: time of the next notification if all earlier ones had been evenly spread (the TAT of the
        #: generic cell rate algorithm).
        self._due_at: dict[str, float] = {}

    def count(self, api_key: ApiKey) -> None:
        """Count one notification; raise RateLimitedError, without counting it, if it exceeds the key's rate."""
        own = api_key.limits.notifications_per_minute
        if own == 0:
            return
        rate = self._default if own is None else Rate(own, own)
        now = self._clock()
        due_at = max(self._due_at.get(api_key.label, now), now) + 60 / rate.per_minute
        wait_s = due_at - now - rate.burst * 60 / rate.per_minute
        # A wait below a microsecond is a rounding error.
        if wait_s > 1e-6:
            raise RateLimitedError(rate, wait_s)
        self._due_at[api_key.label] = due_at


#: For this long after a wait that it asked for, a destination is paced at its service's documented rate.
PACED_FOR_S: Final = 60.0
#: A longer Retry-After is cut to this: a proxy may have sent it for an hour of maintenance.
HOLD_LIMIT_S: Final = 60.0
_DESTINATIONS_KEPT: Final = 1_024


class _PacedDestination(msgspec.Struct):
    """A destination that is paced until the time `until`, with the number of deliveries that wait for their turn."""

    until: float
    waiting: int = 0


class RetryAfterPacing:
    """Paces the destinations that asked to wait, in this process; all others are not delayed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pacer = Pacer(clock)
        self._destinations: dict[str, _PacedDestination] = {}

    async def wait_turn(self, target: Target, within_s: float) -> None:
        """Wait until the destination accepts a message; raise TransientError at once if that takes over `within_s`."""
        destination = self._destinations.get(target.destination)
        if destination is None:
            return
        limits = target.channel.limits(target.config)
        # A delivery that would wait too long fails at once, so that it does not use memory until its deadline.
        wait_s = self._pacer.wait_s(*limits) + destination.waiting * limits[0].every_s
        if wait_s > within_s:
            raise TransientError(f"{target.service} has asked to wait, {math.ceil(wait_s)} s from now on")
        if destination.until < self._clock() and not wait_s:
            del self._destinations[target.destination]
            return
        await self._wait_turn(destination, limits)

    def hold(self, target: Target, delay_s: float) -> None:
        """Send nothing to the destination for `delay_s` seconds, at most HOLD_LIMIT_S, and pace it for PACED_FOR_S."""
        hold_s = min(delay_s, HOLD_LIMIT_S)
        self._pacer.hold(target.channel.limits(target.config)[0].key, hold_s)
        until = self._clock() + hold_s + PACED_FOR_S
        self._destinations.setdefault(target.destination, _PacedDestination(until)).until = until
        if len(self._destinations) > _DESTINATIONS_KEPT:
            self._drop_idle()

    @property
    def known_destinations(self) -> int:
        """Return how many destinations are kept now."""
        return len(self._destinations)

    async def _wait_turn(self, destination: _PacedDestination, limits: tuple[SendLimit, ...]) -> None:
        destination.waiting += 1
        try:
            await self._pacer.wait_turn(*limits)
        finally:
            destination.waiting -= 1

    def _drop_idle(self) -> None:
        now = self._clock()
        self._destinations = {
            name: destination
            for name, destination in self._destinations.items()
            if destination.waiting or destination.until >= now
        }
