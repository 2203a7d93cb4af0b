"""One leader among many processes, by an advisory lock on a connection of its own."""

import asyncio

import structlog

from app.db.pool import DATABASE_ERRORS, Connection, connect
from app.db.sql import SQL

#: How often a process that is not the leader tries, and the leader proves that its connection lives.
BEAT_S = 2.0
_TIMEOUT_S = 5.0

log = structlog.get_logger()


class Lease:
    """Held by at most one process a database; lost at once when its connection ends."""

    def __init__(self, dsn: str, number: int = 1) -> None:
        self._dsn = dsn
        self._number = number
        self._connection: Connection | None = None
        self._held = False
        #: Counts the times that this process became the leader.
        self.term = 0

    @property
    def held(self) -> bool:
        """Whether this process is the leader, as far as its connection is known to live."""
        return self._held and self._connection is not None and not self._connection.is_closed()

    async def keep(self) -> None:
        """Try for the lease, and keep it, for ever."""
        try:
            while True:
                try:
                    # Not wait_for, which in Python 3.11 swallows a cancellation that comes as the beat ends.
                    async with asyncio.timeout(_TIMEOUT_S):
                        await self._beat()
                except DATABASE_ERRORS as error:
                    self._lose(error)
                await asyncio.sleep(BEAT_S)
        finally:
            self._lose(None)

    async def _beat(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._held = False
            self._connection = await connect(self._dsn, application_name="tidegauge lease")
        if self._held:
            await self._connection.execute("SELECT 1")
        elif await self._connection.fetchval(SQL["try_lease"], self._number):
            self._held = True
            self.term += 1
            log.info("lease_taken", number=self._number)

    def _lose(self, error: BaseException | None) -> None:
        if self._held:
            log.info("lease_lost", number=self._number, error=str(error) if error else None)
        self._held = False
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
