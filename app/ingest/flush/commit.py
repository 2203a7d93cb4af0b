"""Commits whose answer may be lost. It is then unknown whether the readings were stored."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from app.db.pool import DATABASE_ERRORS, Connection

#: Errors of a server that ends or loses a session. They may come after the commit, in place of its answer.
_ENDED = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InternalServerError,
)


class CommitUnknownError(Exception):
    """The connection ended between a commit and its answer."""


@contextmanager
def commit_answered() -> Iterator[None]:
    """Run a block that commits, or follows a commit; raise CommitUnknownError if it failed and may have committed."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if isinstance(error, ValueError) or (
            isinstance(error, asyncpg.PostgresError) and not isinstance(error, _ENDED)
        ):
            raise  # asyncpg has sent nothing, or the server has refused and rolled back
        raise CommitUnknownError(repr(error)) from error


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a transaction, then commit it; raise CommitUnknownError if the answer to that is lost."""
    opened = connection.transaction()
    await opened.start()
    try:
        yield
    except BaseException:
        await opened.rollback()
        raise
    with commit_answered():
        await opened.commit()
