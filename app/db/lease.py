"""The lease that makes one of several workers the leader: a row that names the session of the leader.

The lease is free again when that session has ended. Taking it writes, so a server that is read-only or in recovery
never grants it. It is not an advisory lock: any user of the database could take one and stop all alerts.

On the same connection, the leader listens for signals of the API: a request was stored in the database. A lost signal
only causes a delay, because the leader also looks from time to time.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from app.db.pool import DATABASE_ERRORS, Connection, Pool, connect
from app.db.sql import SQL
from app.errors import AppError

#: The lease of the process that evaluates rules, sends messages and keeps the aggregates.
WORKER_LEASE = 1
CHANNEL = "tidegauge_work"
#: Interval at which the leader checks its connection and the other processes try to become the leader.
BEAT_S = 2.0
#: The database ends the session of a leader after this time without a query: its process or host was stopped.
SILENT_S = 10
_TIMEOUT_S = 5.0

log = structlog.get_logger()


class LeaseLostError(AppError):
    """Another process has taken the lease since this one took it."""

    code = "lease_lost"
    title = "Another process is the leader now"


class Lease:
    """The lease of this process: at most one process per database holds it; it is lost when the connection ends."""

    def __init__(self, dsn: str, number: int = WORKER_LEASE, on_signal: Callable[[], None] = lambda: None) -> None:
        self._dsn = dsn
        self._number = number
        self._on_signal = on_signal
        self._connection: Connection | None = None
        self._held = False
        #: The number of times that any process had become the leader when this one last did.
        self.term = 0
        #: Set once this process has tried to take the lease for the first time.
        self.tried = asyncio.Event()

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
                except (LeaseLostError, *DATABASE_ERRORS) as error:
                    self.lose(error)
                await asyncio.sleep(BEAT_S)
        finally:
            self.lose(None)

    async def _beat(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._held = False
            self._connection = await connect(
                self._dsn, application_name="tidegauge lease", idle_session_timeout=f"{SILENT_S}s"
            )
        if self._held:
            await check_term(self._connection, self.term, self._number)
        elif (term := await self._connection.fetchval(SQL["take_lease"], self._number)) is not None:
            self.term = term
            await self._connection.add_listener(CHANNEL, lambda *_: self._on_signal())
            self._held = True
            log.info("lease_taken", number=self._number, term=self.term)
        self.tried.set()

    def lose(self, error: BaseException | None) -> None:
        """Release the lease, or take note that it is lost; `keep` tries to take it again."""
        if self._held:
            log.info("lease_lost", number=self._number, error=str(error) if error else None)
        self._held = False
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def check_term(connection: Connection | Pool, term: int, number: int = WORKER_LEASE) -> None:
    """Raise LeaseLostError if a later term has begun, which this process may not have noticed yet."""
    newest = await connection.fetchval(SQL["get_term"], number)
    if newest is not None and newest > term:
        raise LeaseLostError(f"Term {newest} has begun; this process evaluated in term {term}")


async def is_held(connection: Connection | Pool, number: int = WORKER_LEASE) -> bool:
    """Return whether any process holds the lease. Use the primary, because a replica knows only its own sessions."""
    held: bool = await connection.fetchval(SQL["is_lease_held"], number)
    return held


async def signal_leader(connection: Connection) -> None:
    """Let the leader look for new requests at once; the signal is sent with the commit of the transaction."""
    await connection.execute(SQL["signal_leader"])


async def try_to_signal_leader(pool: Pool) -> None:
    """Let the leader look for committed requests at once; if the signal fails, it looks a little later."""
    with suppress(*DATABASE_ERRORS):
        await pool.execute(SQL["signal_leader"])
