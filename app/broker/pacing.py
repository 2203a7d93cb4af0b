"""Pacing of the destinations that asked to wait, over all API processes."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from app.broker.request import Target
from app.broker.sql import SQL
from app.db.shared import NotSharedError, SharedState
from app.notify.pacing import Pacer, SendLimit
from app.notify.transport import TransientError

#: For this long after a wait that it asked for, a destination is paced at its service's documented rate.
PACED_FOR_S: Final = 60.0
#: A longer Retry-After is cut to this: a proxy may have sent it for an hour of maintenance.
HOLD_LIMIT_S: Final = 60.0
#: A process learns within this time that another one was asked to wait.
READ_EVERY_S: Final = 1.0
#: A hold is shared with other processes only if it ends at least this much later than the one shared before: a
#: destination that refuses a thousand messages at once asks a thousand times to wait.
_HOLD_STEP_S: Final = 0.25
_DESTINATIONS_KEPT: Final = 1_024


class _PacedDestination(msgspec.Struct):
    """A destination that has asked to wait, and is paced until the time `until`; times are the clock's, in seconds."""

    until: float
    held_until: float
    #: The end of the hold that was shared with other processes.
    shared_until: float = float("-inf")
    #: As far as this process knows, no process gets a turn before this time.
    next_turn_at: float = float("-inf")
    #: Number of deliveries that wait in the queue of this process.
    waiting: int = 0


class RetryAfterPacing:
    """Paces the destinations that asked to wait; all others are not delayed.

    A request to wait is stored in the database, for all processes, and while a destination is paced, the database gives
    the turns. It is read before a message is sent, at most once every READ_EVERY_S. While the database is away, each
    process uses the requests that it knows.
    """

    def __init__(self, shared: SharedState, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._clock = clock
        self._pacer = Pacer(clock)
        self._destinations: dict[str, _PacedDestination] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def wait_turn(self, target: Target, within_s: float) -> None:
        """Wait until the destination accepts a message; raise TransientError at once if that takes over `within_s`."""
        give_up_at = self._clock() + within_s
        await self._read_if_old()
        destination = self._destinations.get(target.destination)
        if destination is None:
            return
        limits = target.channel.limits(target.config)
        if destination.until < self._clock() and not self._pacer.wait_s(*limits):
            del self._destinations[target.destination]
            return
        await self._wait_shared_turn(target, destination, limits, give_up_at)
        # The turns of the database pace the destination. The queue here adds limits that several destinations share,
        # such as those of a bot, and paces alone while the database is away.
        await self._wait_turn_here(destination, limits)

    async def hold(self, target: Target, delay_s: float) -> None:
        """Send nothing to the destination for `delay_s` seconds, at most HOLD_LIMIT_S, and pace it for PACED_FOR_S."""
        hold_s = min(delay_s, HOLD_LIMIT_S)
        destination = self._hold_here(target.destination, hold_s, hold_s + PACED_FOR_S)
        if destination.held_until < destination.shared_until + _HOLD_STEP_S:
            return
        destination.shared_until = destination.held_until
        with suppress(NotSharedError):
            await self._shared.fetch(SQL["hold_destination"], target.destination, hold_s, hold_s + PACED_FOR_S)

    @property
    def known_destinations(self) -> int:
        """Return how many destinations are kept now."""
        return len(self._destinations)

    async def _wait_shared_turn(
        self, target: Target, destination: _PacedDestination, limits: tuple[SendLimit, ...], give_up_at: float
    ) -> None:
        """Take a turn from the database and wait for it; take another one if a hold has begun meanwhile."""
        turn_at = float("-inf")
        while turn_at < destination.held_until - _HOLD_STEP_S:
            asked_at = self._clock()
            # Refuse without a query if this process knows that the turn would be too late.
            known_s = max(self._pacer.wait_s(*limits), destination.next_turn_at - asked_at)
            _refuse_if_late(target, known_s, give_up_at - asked_at)
            turn_s = await self._take_shared_turn(target, limits, give_up_at - asked_at)
            if turn_s is None:
                # A delivery that would wait too long fails at once, so that it does not use memory until its deadline.
                queue_s = known_s + destination.waiting * limits[0].every_s
                _refuse_if_late(target, queue_s, give_up_at - asked_at)
                return
            destination.next_turn_at = asked_at + turn_s
            _refuse_if_late(target, turn_s, give_up_at - asked_at)
            turn_at = self._clock() + turn_s
            await asyncio.sleep(turn_s)
            await self._read_if_old()

    async def _take_shared_turn(self, target: Target, limits: tuple[SendLimit, ...], within_s: float) -> float | None:
        """Take a turn if it comes within `within_s`; return the seconds until it, None if the database gives no turns.

        Only the destination's own limits count here, not limits that several destinations share, such as that of a bot.
        """
        own = [limit for limit in limits if limit.key.startswith(target.destination)]
        spacings_s, bursts = [limit.every_s for limit in own], [limit.burst for limit in own]
        with suppress(NotSharedError):
            rows = await self._shared.fetch(SQL["take_turn"], target.destination, spacings_s, bursts, within_s)
            turn_s: float | None = rows[0]["turn_s"]
            return turn_s
        return None

    async def _wait_turn_here(self, destination: _PacedDestination, limits: tuple[SendLimit, ...]) -> None:
        destination.waiting += 1
        try:
            await self._pacer.wait_turn(*limits)
        finally:
            destination.waiting -= 1

    async def _read_if_old(self) -> None:
        """Read the requests to wait that other processes got, unless they were read within READ_EVERY_S."""
        if self._clock() < self._read_at + READ_EVERY_S:
            return
        async with self._reading:
            if self._clock() < self._read_at + READ_EVERY_S:
                return
            asked_at = self._clock()
            with suppress(NotSharedError):
                rows = await self._shared.fetch(SQL["list_paced_destinations"], _DESTINATIONS_KEPT)
                passed_s = self._clock() - asked_at
                for name, held_s, paced_s in rows:
                    destination = self._hold_here(name, held_s - passed_s, paced_s - passed_s)
                    destination.shared_until = destination.held_until
                self._read_at = asked_at

    def _hold_here(self, name: str, hold_s: float, paced_s: float) -> _PacedDestination:
        """Hold and pace a destination in this process; its name is the key of its first limit, too."""
        self._pacer.hold(name, hold_s)
        until, held_until = self._clock() + paced_s, self._clock() + hold_s
        destination = self._destinations.setdefault(name, _PacedDestination(until, held_until))
        destination.until = max(destination.until, until)
        destination.held_until = max(destination.held_until, held_until)
        if len(self._destinations) > _DESTINATIONS_KEPT:
            self._drop_idle()
        return destination

    def _drop_idle(self) -> None:
        now = self._clock()
        self._destinations = {
            name: destination
            for name, destination in self._destinations.items()
            if destination.waiting or destination.until >= now
        }


def _refuse_if_late(target: Target, wait_s: float, left_s: float) -> None:
    if wait_s > left_s:
        raise TransientError(f"{target.service} has asked to wait, {math.ceil(wait_s)} s from now on")
