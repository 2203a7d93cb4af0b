"""Connections to PostgreSQL: the pool of a process, and single connections that must keep their session."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    # Only asyncpg's stubs accept type arguments for these classes.
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

#: Longest time of one statement; an upload whose statement takes longer is answered 503.
COMMAND_TIMEOUT_S = 30
POOL_SIZE = 10
#: Errors of a database that is unreachable, busy or shutting down, or that refuses a statement. asyncpg raises
#: InternalClientError on a connection that the server is just closing.
DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_SETTINGS = {
    "application_name": "tidegauge",
    "timezone": "UTC",
    "jit": "off",
    # A transaction whose client is gone must not keep its locks.
    "idle_in_transaction_session_timeout": "5s",
}


class MeasuredPool(Pool):
    """A pool that tells how long each wait for a connection took, in seconds, also one that failed."""

    on_wait: Callable[[float], None] = staticmethod(lambda seconds: None)

    async def _acquire(self, timeout: float | None) -> Any:
        began = monotonic()
        try:
            return await super()._acquire(timeout)  # type: ignore[misc]
        finally:
            self.on_wait(monotonic() - began)


async def open_pool(dsn: str, *, min_size: int = 2, max_size: int = POOL_SIZE) -> MeasuredPool:
    """Open a pool whose connections use UTC and decode jsonb; raise OSError or asyncpg.PostgresError on failure."""
    return await MeasuredPool(
        dsn,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        max_queries=50_000,
        loop=None,
        min_size=min_size,
        max_size=max_size,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=5,
        max_inactive_connection_lifetime=60,
        init=_use_json,
        server_settings=_SETTINGS,
    )


async def connect(dsn: str, **settings: str) -> Connection:
    """Open one connection outside the pool, for work that must keep its session: LISTEN, a lease, a migration."""
    connection = await asyncpg.connect(dsn, timeout=5, server_settings={**_SETTINGS, **settings})
    await _use_json(connection)
    return connection


@contextmanager
def cut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """Cut a connection if the block takes longer; to cancel a query would mean to wait for a server that may hang."""
    timer = asyncio.get_running_loop().call_later(seconds, connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


async def _use_json(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
