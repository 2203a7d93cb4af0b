"""Limits of WebSocket connections for each API key, over all API processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import uuid4

from app.auth.keys import ApiKey
from app.auth.sql import SQL
from app.db.shared import NotSharedError, SharedState

#: Interval between two beats of a process that holds connections. After three intervals without a beat, the process is
#: gone, and take_connection_1 ignores its count.
BEAT_EVERY_S: Final = 5.0


class TooManyConnectionsError(Exception):
    """The key has as many connections as its limit allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Max connections ({limit}) for this API Key reached.")


class ConnectionCounts:
    """Counts the connections of each key that has a limit; while the database is away, those of this process alone.

    A key's own limit takes precedence over the server's; 0 means no limit. Each write stores the whole count of this
    process, so that the next write corrects a lost one.
    """

    def __init__(self, default_limit: int, shared: SharedState) -> None:
        self._default_limit = default_limit
        self._shared = shared
        self._process = uuid4()
        self._held: Counter[str] = Counter()
        self._ended = asyncio.Event()
        #: One write at a time, so that an older count never replaces a newer one.
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, api_key: ApiKey) -> AsyncIterator[None]:
        """Count one connection until the block ends; raise TooManyConnectionsError if the limit is reached."""
        own = api_key.limits.ws_connections
        limit = self._default_limit if own is None else own
        if not limit:
            yield
            return
        if self._held[api_key.label] >= limit:
            raise TooManyConnectionsError(limit)
        self._held[api_key.label] += 1
        try:
            if not await self._take(api_key.label, limit):
                raise TooManyConnectionsError(limit)
            yield
        finally:
            self._give_back(api_key.label)

    async def share(self) -> None:
        """Write the counts when connections have ended, and every BEAT_EVERY_S while there are any, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_EVERY_S):
                    await self._ended.wait()
            await self.write()

    async def write(self) -> None:
        """Write the counts of this process if it has or had any, and if the database answers."""
        if not (self._held or self._ended.is_set()):
            return
        self._ended.clear()
        async with self._writing:
            labels, counts = list(self._held), list(self._held.values())
            with suppress(NotSharedError):
                await self._shared.fetch(SQL["write_connection_counts"], self._process, labels, counts)

    async def _take(self, label: str, limit: int) -> bool:
        """Return whether one more connection, which is counted here already, is within the limit."""
        async with self._writing:
            try:
                rows = await self._shared.fetch(SQL["take_connection"], label, self._process, self._held[label], limit)
            except NotSharedError:
                return True
            return bool(rows[0]["taken"])

    def _give_back(self, label: str) -> None:
        self._held[label] -= 1
        if not self._held[label]:
            del self._held[label]
        # share() writes the count: a connection may end by a cancellation, after which nothing can be awaited.
        self._ended.set()
