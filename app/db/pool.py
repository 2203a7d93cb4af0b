"""Connections to PostgreSQL: the pool of a process, and single connections that must keep their session."""

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


class Session(asyncpg.Connection):
    """A connection on which a statement fails with one of DATABASE_ERRORS when another task cuts it.

    asyncpg forgets its protocol then, and a statement that has just been prepared fails with AttributeError.
    """

    _protocol: Any

    def _abort(self) -> None:
        self._aborted = True
        self._protocol.abort()


async def open_pool(dsn: str, *, min_size: int = 2, max_size: int = POOL_SIZE) -> Pool:
    """Open a pool whose connections use UTC and decode jsonb; raise OSError or asyncpg.PostgresError on failure."""
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=5,
        max_inactive_connection_lifetime=60,
        init=_use_json,
        server_settings=_SETTINGS,
        connection_class=Session,
    )


async def connect(dsn: str, **settings: str) -> Connection:
    """Open one connection outside the pool, for work that must keep its session: LISTEN, a lease, a migration."""
    connection = await asyncpg.connect(
        dsn, timeout=5, server_settings={**_SETTINGS, **settings}, connection_class=Session
    )
    await _use_json(connection)
    return connection


async def _use_json(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
