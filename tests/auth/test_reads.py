"""The bound on concurrent reads of a key."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from app.auth import reads
from app.auth.reads import READS_RUNNING, READS_WAITING, ReadSlots
from app.errors import TooManyRequestsError
from tests.conftest import wait_until


class Reads:
    """Reads that begin when they get a slot, and end when they are told to."""

    def __init__(self) -> None:
        self.slots = ReadSlots()
        self.running = 0
        self._go_on = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, label: str, count: int) -> None:
        """Begin reads."""
        self._tasks += [asyncio.create_task(self._read(label)) for _ in range(count)]

    async def _read(self, label: str) -> None:
        async with self.slots.hold(label):
            self.running += 1
            await self._go_on.wait()
            self.running -= 1

    async def end(self) -> None:
        """Let all end."""
        self._go_on.set()
        await asyncio.gather(*self._tasks)

    async def cancel(self, count: int) -> None:
        """Cancel the last ones, as when their clients leave."""
        for task in self._tasks[-count:]:
            task.cancel()
        await asyncio.gather(*self._tasks[-count:], return_exceptions=True)
        del self._tasks[-count:]


async def test_reads_of_a_key_run_four_at_a_time_when_more_come() -> None:
    begun = Reads()
    begun.begin("a", 10)
    await wait_until(lambda: begun.running == 4)
    begun.begin("b", 3)
    await wait_until(lambda: begun.running == 7)
    await begun.end()
    assert begun.slots._keys == {}


async def test_read_is_refused_when_as_many_of_the_key_run_and_wait_as_may() -> None:
    begun = Reads()
    begun.begin("a", READS_RUNNING + READS_WAITING)
    await wait_until(lambda: begun.running == READS_RUNNING)
    with pytest.raises(TooManyRequestsError, match="32 reads of this key are under way"):
        async with begun.slots.hold("a"):
            pass
    async with begun.slots.hold("b"):
        pass
    await begun.cancel(1)
    async with AsyncExitStack() as stack:
        waiting = asyncio.create_task(stack.enter_async_context(begun.slots.hold("a")))
        await asyncio.sleep(0)
        assert not waiting.done()
        await begun.end()
        await waiting
    assert begun.slots._keys == {}


async def test_read_is_refused_when_it_has_waited_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "READ_WAIT_S", 0.05)
    begun = Reads()
    begun.begin("a", READS_RUNNING)
    await wait_until(lambda: begun.running == READS_RUNNING)
    with pytest.raises(TooManyRequestsError, match="4 reads of this key have been running"):
        async with begun.slots.hold("a"):
            pass
    await begun.end()
    assert begun.slots._keys == {}
