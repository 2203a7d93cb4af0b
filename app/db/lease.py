"""The lease that makes one of several processes the leader: an advisory lock on a dedicated connection."""

import asyncio

import structlog

from app.db.pool import DATABASE_ERRORS, Connection, connect
from app.db.sql import SQL

#: Interval at which the leader checks its connection and the other processes try to become the leader.
BEAT_S = 2.0
_TIMEOUT_S = 5.0

log = structlog.get_logger()


class Lease:
    """The lease of this process: at most one process per database holds it; it is lost when the connection ends."""

    def __init__(self, dsn: str, number: int = 1) -> None:
        self._dsn = dsn
        self._number = number
        self._connection: Connection | None = None
        self._held = False
        #: The number of times that this process has become the leader.
        self.term = 0

    @property
    def held(self) -> bool:
        """Return whether this process is the leader, as far as its connection is known to be open."""
        return self._held and self._connection is not None and not self._connection.is_closed()

    async def keep(self) -> None:
        """Try for ever to take the lease, and keep it once taken."""
        try:
            while True:
                try:
                    # Not wait_for, which in Python 3.11 swallows a cancellation that comes as _beat returns.
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
