"""A pool for reads at a replica, which takes connections to the primary while the replica is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from app.db.pool import DATABASE_ERRORS, BoundedPool, Connection, connect

#: Interval between two looks at the replica.
LOOK_EVERY_S = 2.0
#: Longest time until the replica answers a look, or accepts a connection.
ANSWER_WITHIN_S = 2.0
log = structlog.get_logger()


class ReplicaPool(BoundedPool):
    """The pool of a replica. It opens also while the replica is away, and notices with `watch` when that changes."""

    is_away = False
    _dsn: str
    _primary: BoundedPool

    def fall_back_to(self, primary: BoundedPool, dsn: str) -> None:
        """Set the pool to use while the replica, whose address is `dsn`, is away; call this before any use."""
        self._primary, self._dsn = primary, dsn

    def acquire(self, *, timeout: float | None = None) -> Any:
        """Return a connection to the replica, or to the primary while the replica is away; raise TimeoutError."""
        return self._acquired(timeout)

    async def watch(self) -> None:
        """Check whether the replica answers every LOOK_EVERY_S, on a connection of its own, until cancelled."""
        session: Connection | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(ANSWER_WITHIN_S):
                        if session is None or session.is_closed():
                            session = await connect(self._dsn, writes=False, application_name="tidegauge replica")
                        await session.execute("SELECT 1")
                except DATABASE_ERRORS as error:
                    self._lose(error)
                    if session is not None:
                        session.terminate()
                else:
                    self._find()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            if session is not None:
                session.terminate()

    @asynccontextmanager
    async def _acquired(self, timeout: float | None) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            yield await self._enter(stack, timeout)

    async def _enter(self, stack: AsyncExitStack, timeout: float | None) -> Any:
        if not self.is_away:
            try:
                return await stack.enter_async_context(super().acquire(timeout=ANSWER_WITHIN_S))
            except DATABASE_ERRORS as error:
                if self.get_size() == self.get_max_size():
                    raise  # all connections are in use; those of the primary are for others
                self._lose(error)
        return await stack.enter_async_context(self._primary.acquire(timeout=timeout))

    def _lose(self, error: Exception) -> None:
        if self.is_away:
            return
        self.is_away = True
        log.warning("replica_lost", error=repr(error))
        # The reads under way would hang until their deadlines.
        self.cut()

    def _find(self) -> None:
        if self.is_away:
            self.is_away = False
            log.info("replica_found")
