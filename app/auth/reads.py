"""A limit of the reads of one key at a time, so that no key can use up the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from app.errors import TooManyRequestsError

#: Largest number of reads of one key that run at the same time, and of those that wait.
READS_RUNNING: Final = 4
READS_WAITING: Final = 28
#: Longest wait for the key's other reads.
READ_WAIT_S: Final = 5.0
#: Longest time of one statement of a read; the database ends it then.
READ_TIMEOUT_S: Final = 10.0


class ReadSlots:
    """Lets READS_RUNNING reads of each key run in this process, and READS_WAITING wait."""

    def __init__(self) -> None:
        self._keys: dict[str, _Slots] = {}

    @asynccontextmanager
    async def hold(self, label: str) -> AsyncIterator[None]:
        """Wait for a slot of the key and hold it until the block ends; raise TooManyRequestsError."""
        slots = self._keys.setdefault(label, _Slots())
        if slots.taken >= READS_RUNNING + READS_WAITING:
            raise TooManyRequestsError(
                f"{slots.taken} reads of this key are under way, which is the limit. Wait for their answers."
            )
        slots.taken += 1
        try:
            await _wait_for(slots.running)
            try:
                yield
            finally:
                slots.running.release()
        finally:
            slots.taken -= 1
            if not slots.taken:
                del self._keys[label]


class _Slots:
    def __init__(self) -> None:
        self.taken = 0
        self.running = asyncio.Semaphore(READS_RUNNING)


async def _wait_for(running: asyncio.Semaphore) -> None:
    try:
        async with asyncio.timeout(READ_WAIT_S):
            await running.acquire()
    except TimeoutError:
        raise TooManyRequestsError(
            f"{READS_RUNNING} reads of this key have been running for {READ_WAIT_S:.0f} s, which is the limit. Wait "
            "for their answers, or ask for less at a time."
        ) from None
