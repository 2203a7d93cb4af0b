"""Queries of state that processes share through the database, and that each can do without while it is away."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from asyncpg import Record

from app.db.pool import DATABASE_ERRORS, Pool

#: Longest wait for a connection, and longest time of a query: clients wait for the answer.
TIMEOUT_S: Final = 1.0
#: After a failure, nothing is asked for this long, so that not every caller waits for a database that hangs.
RETRY_S: Final = 5.0
log = structlog.get_logger()


class NotSharedError(Exception):
    """The database cannot be asked at the moment; the caller goes on with what its process knows."""


class SharedState:
    """The shared state as one process reaches it; without a pool, as in a process that is alone, it is never there."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.pool: Pool | None = None
        self._clock = clock
        self._ask_again_at = float("-inf")

    async def fetch(self, sql: str, *arguments: Any) -> list[Record]:
        """Return the rows of a query; raise NotSharedError if it fails, and at once if one failed within RETRY_S."""
        if self.pool is None or self._clock() < self._ask_again_at:
            raise NotSharedError
        try:
            # The timeout of acquire() also limits how long a cancelled query is waited for; the default is no limit.
            async with self.pool.acquire(timeout=TIMEOUT_S) as connection:
                return await connection.fetch(sql, *arguments, timeout=TIMEOUT_S)
        except DATABASE_ERRORS as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A cancelled query is waited for; if that takes too long, asyncpg raises TimeoutError in its place.
                raise asyncio.CancelledError from error
            self._ask_again_at = self._clock() + RETRY_S
            log.warning("limits_not_shared", error=repr(error))
            raise NotSharedError from None
