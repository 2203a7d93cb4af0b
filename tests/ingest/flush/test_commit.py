"""Commits whose answer is lost: when it is unknown whether the readings were stored, and when it is certain."""

import asyncpg
import pytest

from app.db.pool import Connection
from app.ingest.flush.commit import CommitUnknownError, commit_answered, transaction
from tests.conftest import Database


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        TimeoutError("no answer"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.CrashShutdownError("terminating connection because of crash"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_commit_is_unknown_when_the_connection_ends_without_an_answer(error: Exception) -> None:
    with pytest.raises(CommitUnknownError, match=type(error).__name__), commit_answered():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError("duplicate key"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.NumericValueOutOfRangeError("out of range"),
        asyncpg.DataError("invalid input for query argument"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_nothing_is_stored_when_the_server_refuses(error: Exception) -> None:
    with pytest.raises(type(error)), commit_answered():
        raise error


async def test_transaction_is_rolled_back_when_the_block_fails(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("CREATE TEMPORARY TABLE note (text text)")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await _insert(connection, "('lost'), ((1 / 0)::text)")
        await _insert(connection, "('kept')")
        assert await connection.fetchval("SELECT array_agg(text) FROM note") == ["kept"]


async def _insert(connection: Connection, rows: str) -> None:
    async with transaction(connection):
        await connection.execute(f"INSERT INTO note VALUES {rows}")
