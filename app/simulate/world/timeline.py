"""The event time of a simulation: it may run faster than real time, and it may end."""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic

from app.clock import SECOND_US
from app.simulate.plan import Plan

#: The shortest sleep, however fast event time runs.
SHORTEST_SLEEP_S = 0.01


class EventTimeline:
    """Maps real time to event time, in microseconds since 1970.

    The history is from `start_us` to `live_us`. From `live_us` on, event time runs live, up to `end_us`; None: no end.
    """

    def __init__(
        self,
        start_us: int,
        live_us: int,
        end_us: int | None,
        speed: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.start_us = start_us
        self.live_us = live_us
        self.end_us = end_us
        self._speed = speed
        self._clock = clock
        self._began = clock()
        self._stopped = asyncio.Event()

    @classmethod
    def of(cls, plan: Plan, now_us: int) -> "EventTimeline":
        """Return the timeline of a plan; event time reaches real time at the end, whatever the speed."""
        if plan.duration_us is None:
            return cls(now_us - plan.history_us, now_us, None)
        end_us = now_us + plan.duration_us
        live_us = end_us - round(plan.duration_us * plan.speed)
        return cls(live_us - plan.history_us, live_us, end_us, plan.speed)

    @property
    def is_stopped(self) -> bool:
        """Return whether `stop` was called."""
        return self._stopped.is_set()

    @property
    def over_since(self) -> float:
        """Time of the end on the monotonic clock, in seconds; infinity without an end."""
        if self.end_us is None:
            return inf
        return self._began + (self.end_us - self.live_us) / SECOND_US / self._speed

    @property
    def is_over(self) -> bool:
        """Return whether the end is reached."""
        return self.end_us is not None and self.now_us() >= self.end_us

    def now_us(self) -> int:
        """Return the event time; after the end it stays at `end_us`."""
        now_us = self.live_us + round((self._clock() - self._began) * self._speed * SECOND_US)
        return now_us if self.end_us is None else min(now_us, self.end_us)

    def stop(self) -> None:
        """End the timeline now."""
        self.end_us = self.now_us()
        self._stopped.set()

    async def sleep_until(self, time_us: int) -> None:
        """Sleep until an event time, but not past the end."""
        if self.end_us is not None:
            time_us = min(time_us, self.end_us)
        await self.sleep(max((time_us - self.now_us()) / SECOND_US / self._speed, SHORTEST_SLEEP_S))

    async def sleep(self, seconds: float) -> None:
        """Sleep for some seconds of real time, or until the timeline is stopped."""
        if self.is_stopped:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return
