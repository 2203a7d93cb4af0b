"""The rights of the roles in the database: the owner, the API (`tidegauge_app`) and the reader (`tidegauge_reader`).

The API reads and writes rows and nothing else; Grafana's reader cannot stop anyone's work.
"""

from pathlib import Path

import asyncpg
import structlog

from app.db.pool import APP_ROLE, Connection, Pool
from app.db.queries import load_queries

SQL = load_queries(Path(__file__).with_name("queries.sql"))
#: A transaction of the reader is ended after this time, whatever limits the reader has set for itself.
READER_TRANSACTION_S = 60
#: A transaction of the reader is ended after this time if another session waits for a lock that it holds.
READER_BLOCKS_S = 3
_STEPS = (
    "create_app_role",
    "let_owner_become_app",
    "let_owner_end_readers",
    "grant_connections",
    "grant_rows",
    "keep_functions_that_write",
    "revoke_temporary_tables",
    "revoke_creation",
    "revoke_costly_functions",
    "limit_reader",
)
_ATTEMPTS = 10
#: SQLSTATE of "tuple concurrently updated", which a server without real sessions, such as PGlite, raises every time.
_CHANGED_MEANWHILE = "XX000"
log = structlog.get_logger()


async def ensure_rights(connection: Connection) -> None:
    """Grant and revoke rights as far as the owner may, and log refusals; `connection` is not in a transaction.

    `tidegauge doctor` lists the rights that remain and should not.
    """
    for step in _STEPS:
        try:
            await _run(connection, step)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedObjectError, asyncpg.InternalServerError) as error:
            log.warning("right_not_changed", step=step, error=str(error))


async def grant_rows(connection: Connection) -> None:
    """Grant the API its rights on relations that were made anew; may be called in a transaction."""
    if await connection.fetchval("SELECT to_regrole('tidegauge_app') IS NOT NULL"):
        await connection.execute(SQL["grant_rows"])


async def find_missing_role(connection: Connection | Pool) -> str | None:
    """Return a text with the remedy if the user of the address cannot become tidegauge_app and so keeps its rights."""
    if await connection.fetchval(SQL["has_app_role"]):
        return None
    user = await connection.fetchval("SELECT quote_ident(session_user)")
    return (
        f"{user} cannot become the role {APP_ROLE}, so the API works with all rights of {user}: "
        f"run `tidegauge migrate` as a role with CREATEROLE, or GRANT {APP_ROLE} TO {user}"
    )


async def list_open_rights(connection: Connection | Pool) -> list[str]:
    """Return a text for each right of others that could stop the server, with its remedy."""
    return [f"{row['text']}: {row['remedy']}" for row in await connection.fetch(SQL["list_open_rights"])]


async def end_reader_transactions(connection: Connection | Pool) -> None:
    """End sessions of the reader whose transaction lasts too long, or makes another session wait for a lock."""
    ended = await connection.fetch(SQL["end_reader_transactions"], READER_TRANSACTION_S, READER_BLOCKS_S)
    if ended:
        log.warning("reader_transactions_ended", pids=[row["pid"] for row in ended])


async def _run(connection: Connection, step: str) -> None:
    """Run one step; repeat it if another database of the same server changes the same role at the same moment."""
    for attempts_left in range(_ATTEMPTS - 1, -1, -1):
        try:
            await connection.execute(SQL[step])
            return
        except asyncpg.InternalServerError as error:
            if error.sqlstate != _CHANGED_MEANWHILE or not attempts_left:
                raise
