"""Recognition of a pooler between Tidegauge and PostgreSQL that gives a session another server for each transaction.

Through such a pooler, LISTEN, the lease and the settings of a session would be lost without an error: two workers would
evaluate, and no reading would be pushed.
"""

from contextlib import suppress

import asyncpg

from app.db.pool import Connection, connect
from app.errors import SettingsError

#: Number of comparisons of two sessions. A pooler that rotates its servers is detected in the third one at the latest.
_ROUNDS = 5
_BACKEND = "SELECT pg_backend_pid()"
#: Errors of a prepared statement on a server that did not prepare it, or where another client has prepared it.
_NOT_PREPARED_HERE = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)


async def refuse_transaction_pooling(name: str, dsn: str) -> None:
    """Raise SettingsError, which names the variable, if sessions do not keep their server."""
    try:
        shares = await _shares_servers(dsn)
    except _NOT_PREPARED_HERE:
        shares = True
    except asyncpg.ConnectionDoesNotExistError as error:
        if not isinstance(error.__cause__, asyncpg.ProtocolViolationError):
            raise
        shares = True  # in statement mode, PgBouncer ends a session that begins a transaction
    if shares:
        raise SettingsError(
            f"{name} leads through a pooler in transaction or statement mode, which loses LISTEN and locks. Set "
            "pool_mode = session for this database, or name PostgreSQL's own address"
        )


async def _shares_servers(dsn: str) -> bool:
    """Return whether two sessions were seen to share a server, or one to change its server."""
    first = await connect(dsn, writes=False, command_timeout_s=5)
    try:
        backend = await first.fetchval(_BACKEND)
        if backend == first.get_server_pid():
            return False  # a pooler tells its clients another number
        second = await connect(dsn, writes=False, command_timeout_s=5)
        try:
            for _ in range(_ROUNDS):
                if await first.fetchval(_BACKEND) != backend:
                    return True
                async with second.transaction():
                    if await second.fetchval(_BACKEND) == backend or await first.fetchval(_BACKEND) != backend:
                        return True
            return False
        finally:
            await _close(second)
    finally:
        await _close(first)


async def _close(connection: Connection) -> None:
    with suppress(*_NOT_PREPARED_HERE):
        await connection.close(timeout=5)
