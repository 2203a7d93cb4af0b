"""Connections to PostgreSQL: one pool a process, and single connections that live longer than a query."""

from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    # asyncpg's classes take type arguments in its stubs alone
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

#: What an upload waits at most for a connection or an answer before it is told 503.
COMMAND_TIMEOUT_S = 30
POOL_SIZE = 10
#: What may come of asking a database that is away, busy or ending, or that refuses; InternalClientError is what
#: asyncpg raises on a connection that is just being told of its end.
DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_SETTINGS = {
    "application_name": "tidegauge",
    "timezone": "UTC",
    "jit": "off",
    # A flush that lost its client must not hold its locks.
    "idle_in_transaction_session_timeout": "5s",
}


async def open_pool(dsn: str, *, min_size: int = 2, max_size: int = POOL_SIZE) -> Pool:
    """Open a pool whose connections speak UTC and JSON; raise OSError or asyncpg.PostgresError when it cannot."""
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=5,
        max_inactive_connection_lifetime=60,
        init=_use_json,
        server_settings=_SETTINGS,
    )


async def connect(dsn: str, **settings: str) -> Connection:
    """Open one connection outside the pool, for what must keep its session: LISTEN, a lease, a migration."""
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
