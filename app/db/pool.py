"""Connections to PostgreSQL: the pool of a process, and single connections that must keep their session."""

from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from app.errors import OverloadedError

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
#: Longest wait for a connection of a pool, and for the end of a cancelled query before its connection is cut.
ACQUIRE_TIMEOUT_S = 5.0
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


class PoolBusyError(OverloadedError, TimeoutError):
    """All connections of a pool are in use, and none became free in time."""


class _ImpatientPool(Pool):
    """A pool that gives up after ACQUIRE_TIMEOUT_S, where asyncpg's waits without a limit."""

    async def _acquire(self, timeout: float | None) -> Any:
        try:
            return await super()._acquire(ACQUIRE_TIMEOUT_S if timeout is None else timeout)  # type: ignore[misc]
        except TimeoutError as error:
            if self.get_size() < self.get_max_size() or self.get_idle_size():
                raise  # a connection could not be opened
            raise PoolBusyError("The database is busy with other requests. Try again.") from error


async def open_pool(dsn: str, *, min_size: int = 2, max_size: int = POOL_SIZE, **settings: str) -> Pool:
    """Open a pool whose connections use UTC and decode jsonb; raise OSError or asyncpg.PostgresError on failure.

    `settings` are PostgreSQL's, such as `statement_timeout`. Raises PoolBusyError from `acquire`.
    """
    return await _ImpatientPool(
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
        setup=None,
        init=_use_json,
        server_settings={**_SETTINGS, **settings},
    )


async def connect(dsn: str, **settings: str) -> Connection:
    """Open one connection outside the pool, for work that must keep its session: LISTEN, a lease, a migration."""
    connection = await asyncpg.connect(dsn, timeout=5, server_settings={**_SETTINGS, **settings})
    await _use_json(connection)
    return connection


async def _use_json(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
