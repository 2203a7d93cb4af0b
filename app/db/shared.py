"""Queries of state that processes share through the database; each process can work without it while it is away."""

import asyncio
from typing import Any, Final

import structlog
from asyncpg import Record

from app.db.pool import DATABASE_ERRORS, Pool

#: Longest wait for a connection, and longest time of a query. They are short because a client waits for the answer.
TIMEOUT_S: Final = 1.0
#: Between two attempts to reach a database that did not answer.
RETRY_S: Final = 5.0
log = structlog.get_logger()


class NotSharedError(Exception):
    """The database does not answer at the moment; the caller uses the state of its own process."""


class SharedState:
    """Access of one process to the shared state. Without a pool, as in a process that runs alone, it always fails.

    After a failure, all queries fail at once until recover() has got an answer, so that callers do not wait repeatedly
    for a database that hangs.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool
        self._away = asyncio.Event()

    async def fetch(self, sql: str, *arguments: Any) -> list[Record]:
        """Return the rows of a query; raise NotSharedError if it fails, and at once if one has failed before."""
        if self.pool is None or self._away.is_set():
            raise NotSharedError
        try:
            return await self._fetch(self.pool, sql, *arguments)
        except DATABASE_ERRORS as error:
            self._away.set()
            log.warning("limits_not_shared", error=repr(error))
            raise NotSharedError from None

    async def recover(self) -> None:
        """After each failure, query the database every RETRY_S until it answers, then allow queries again."""
        while True:
            await self._away.wait()
            await asyncio.sleep(RETRY_S)
            try:
                assert self.pool is not None  # noqa: S101 -- a query of it has failed
                await self._fetch(self.pool, "SELECT 1")
            except DATABASE_ERRORS:
                continue
            self._away.clear()
            log.info("limits_shared_again")

    async def _fetch(self, pool: Pool, sql: str, *arguments: Any) -> list[Record]:
        try:
            # The timeout of acquire() also limits how long a cancelled query is waited for; the default is no limit.
            async with pool.acquire(timeout=TIMEOUT_S) as connection:
                return await connection.fetch(sql, *arguments, timeout=TIMEOUT_S)
        except TimeoutError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # asyncpg raises it in place of the cancellation if the cancelled query does not end in time.
                raise asyncio.CancelledError from error
            raise
