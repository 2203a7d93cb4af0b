"""Pacing only where a service has asked for it: until then the broker sends at once, as its clients expect."""

import math
import time
from collections.abc import Callable
from typing import Final

import msgspec

from app.broker.targets import Target
from app.notify.pacing import Limit, Pacer
from app.notify.transport import TransientError

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

    async def _queue(self, lane: _Lane, limits: tuple[Limit, ...]) -> None:
        lane.waiting += 1
        try:
            await self._pacer.turn(*limits)
        finally:
            lane.waiting -= 1

    def _drop_idle(self) -> None:
        now = self._clock()
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.waiting or lane.until >= now}
