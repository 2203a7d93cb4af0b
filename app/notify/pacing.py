"""Pacing: messages to one destination are spaced so that its service does not refuse them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

#: Shorter waits are rounding errors.
_ROUNDING_S = 1e-6


class SendLimit(msgspec.Struct, frozen=True):
    """A limit for one key: at most `burst` messages at once, then one every `every_s` seconds."""

    key: str
    every_s: float
    burst: int = 1


class _Slot:
    """The state of one key; times are the clock's, in seconds."""

    def __init__(self) -> None:
        #: Time of the next message if all earlier ones had been evenly spaced: the TAT of the generic cell rate
        #: algorithm.
        self.due_at = float("-inf")
        self.held_until = float("-inf")
        self.waiting = 0
        #: asyncio's lock is fair: it is acquired in the order of the calls.
        self.queue = asyncio.Lock()

    def opens_at(self, limit: SendLimit) -> float:
        """Return the time at which the next message may be sent."""
        return max(self.due_at - (limit.burst - 1) * limit.every_s, self.held_until)

    def is_idle(self, now: float) -> bool:
        """Return whether a new slot would behave the same."""
        return self.waiting == 0 and self.due_at <= now and self.held_until <= now


class Pacer:
    """Lets messages to each destination pass one by one, in the order of the calls.

    The state is in memory only, so after a restart a service may answer 429 once. About `keep` keys are kept: beyond
    that, idle ones are dropped.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        keep: int = 1_024,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._keep = keep
        self._slots: dict[str, _Slot] = {}

    async def wait_turn(self, *limits: SendLimit) -> None:
        """Wait until all limits allow a message, and count it; the first limit is the destination's own.

        Nothing is counted if the wait is cancelled.
        """
        if not limits:
            return
        slots = [self._add_waiter(limit.key) for limit in limits]
        try:
            async with slots[0].queue:
                while (wait_s := self.wait_s(*limits)) > 0:
                    await self._sleep(wait_s)
                self._count(limits, slots)
        finally:
            for slot in slots:
                slot.waiting -= 1

    def wait_s(self, *limits: SendLimit) -> float:
        """Return the seconds until all limits allow a message, not counting others that wait; 0 if they do now."""
        known = [(limit, self._slots[limit.key]) for limit in limits if limit.key in self._slots]
        opens_at = max((slot.opens_at(limit) for limit, slot in known), default=float("-inf"))
        wait_s = opens_at - self._clock()
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def hold(self, key: str, delay_s: float) -> None:
        """Let no message pass for `key` for `delay_s` seconds, as after a Retry-After; this delays waiters too."""
        slot = self._slot(key)
        slot.held_until = max(slot.held_until, self._clock() + delay_s)

    @property
    def known_keys(self) -> int:
        """Return how many keys are kept now."""
        return len(self._slots)

    def _count(self, limits: tuple[SendLimit, ...], slots: list[_Slot]) -> None:
        now = self._clock()
        for limit, slot in zip(limits, slots, strict=True):
            slot.due_at = max(slot.due_at, now) + limit.every_s

    def _add_waiter(self, key: str) -> _Slot:
        """Count one more waiter for a key and return its slot, which is not dropped while it has waiters."""
        slot = self._slot(key)
        slot.waiting += 1
        return slot

    def _slot(self, key: str) -> _Slot:
        slot = self._slots.get(key)
        if slot is None:
            if len(self._slots) >= self._keep:
                self._drop_idle()
            slot = self._slots[key] = _Slot()
        return slot

    def _drop_idle(self) -> None:
        now = self._clock()
        self._slots = {key: slot for key, slot in self._slots.items() if not slot.is_idle(now)}
