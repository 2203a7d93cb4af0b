"""Connections to PostgreSQL: the pool of a process, and single connections that must keep their session."""

from functools import partial
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
#: The role of the API, which may read and write rows and nothing else.
APP_ROLE = "tidegauge_app"
#: The role of Grafana, which may only read.
READER_ROLE = "tidegauge_reader"
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

#: Where the user may not become the role, the session goes on as the user; the start of the API logs a warning.
_BECOME_ROLE = """
DO $$ BEGIN
    IF to_regrole('{role}') IS NOT NULL AND pg_has_role(
        session_user, '{role}',
        CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    ) THEN
        SET ROLE {role};
    END IF;
END $$;
"""


async def open_pool(dsn: str, *, min_size: int = 2, max_size: int = POOL_SIZE, role: str | None = None) -> Pool:
    """Open a pool whose connections use UTC and decode jsonb; raise OSError or asyncpg.PostgresError on failure.

    The connections work as `role` if the user of the address may become it, else as that user.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=5,
        max_inactive_connection_lifetime=60,
        init=partial(_prepare, role=role),
        server_settings=_SETTINGS,
    )


async def connect(dsn: str, *, role: str | None = None, **settings: str) -> Connection:
    """Open one connection outside the pool, for work that must keep its session: LISTEN, a lease, a migration."""
    connection = await asyncpg.connect(dsn, timeout=5, server_settings={**_SETTINGS, **settings})
    await _prepare(connection, role=role)
    return connection


async def _prepare(connection: Any, *, role: str | None) -> None:
    """Set up a new session."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
    if role is not None:
        # What resets a session between two uses in a pool leaves the role as it is.
        await connection.execute(_BECOME_ROLE.format(role=role))
