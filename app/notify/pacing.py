"""Spacing of messages per destination, so that a service is not driven to refuse them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

#: Waits shorter than this are rounding.
_ROUNDING_S = 1e-6


class SendLimit(msgspec.Struct, frozen=True):
    """For one key, at most `burst` messages at once and then one each `every_s`."""

    key: str
    every_s: float
    burst: int = 1


class _Slot:
    """What is known of one key; times are the clock's seconds."""

    def __init__(self) -> None:
        #: When a message would be due had all before it been evenly spaced (the cell rate algorithm's TAT).
        self.due_at = float("-inf")
        self.held_until = float("-inf")
        self.waiting = 0
        #: Fair: turns are given in the order they were asked for.
        self.queue = asyncio.Lock()

    def opens_at(self, limit: SendLimit) -> float:
        """When the next message may go."""
        return max(self.due_at - (limit.burst - 1) * limit.every_s, self.held_until)

    def is_idle(self, now: float) -> bool:
        """Whether it holds nothing that a new slot would not."""
        return self.waiting == 0 and self.due_at <= now and self.held_until <= now


class Pacer:
    """Gives turns, in order per destination. Memory only: after a restart a service may say 429 once.

    Keeps about `keep` keys, dropping idle ones; more only while more are in use.
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

    async def turn(self, *limits: SendLimit) -> None:
        """Wait until all the limits let a message go, and count it; the first is the destination's own.

        Nothing is counted if the wait is cancelled.
        """
        if not limits:
            return
        slots = [self._join(limit.key) for limit in limits]
        try:
            async with slots[0].queue:
                while (wait_s := self.wait_s(*limits)) > 0:
                    await self._sleep(wait_s)
                self._count(limits, slots)
        finally:
            for slot in slots:
                slot.waiting -= 1

    def wait_s(self, *limits: SendLimit) -> float:
        """Seconds until the limits would let a message go, apart from others that wait; 0 if now."""
        known = [(limit, self._slots[limit.key]) for limit in limits if limit.key in self._slots]
        opens_at = max((slot.opens_at(limit) for limit, slot in known), default=float("-inf"))
        wait_s = opens_at - self._clock()
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def hold(self, key: str, delay_s: float) -> None:
        """Let nothing go to `key` for `delay_s` seconds, as a Retry-After asks; also not those who wait."""
        slot = self._slot(key)
        slot.held_until = max(slot.held_until, self._clock() + delay_s)

    @property
    def known_keys(self) -> int:
        """How many keys are kept just now."""
        return len(self._slots)

    def _count(self, limits: tuple[SendLimit, ...], slots: list[_Slot]) -> None:
        now = self._clock()
        for limit, slot in zip(limits, slots, strict=True):
            slot.due_at = max(slot.due_at, now) + limit.every_s

    def _join(self, key: str) -> _Slot:
        """Find a slot and keep it from being dropped while its turn is awaited."""
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
