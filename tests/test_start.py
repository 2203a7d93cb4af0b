"""The start of a process waits for a database that is away, and says in one line why it cannot be used."""

from typing import Any

import asyncpg
import pytest

from app import start
from app.db.migrations import MigrationError
from app.errors import SettingsError
from app.start import check_schema, opened_pool, patiently, require_dsn
from tests.conftest import Database


def test_address_of_the_database_is_demanded() -> None:
    assert require_dsn("postgresql://db/x") == "postgresql://db/x"
    with pytest.raises(SettingsError, match="DATABASE_URL is not set; `tidegauge up` runs a database of its own"):
        require_dsn(None)


async def test_start_ends_with_the_variable_when_no_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "DATABASE_WAIT_S", -1.0)
    with pytest.raises(SettingsError, match="The database at DATABASE_URL does not answer"):
        async with opened_pool("DATABASE_URL", "postgresql://tidegauge@127.0.0.1:1/nowhere"):
            pass


async def test_start_ends_at_once_when_the_server_refuses(database: Database) -> None:
    dsn = f"{database.dsn.rpartition('/')[0]}/no_such_database"
    with pytest.raises(SettingsError, match=r"The database at READ_DATABASE_URL refuses: database .* does not exist"):
        async with opened_pool("READ_DATABASE_URL", dsn):
            pass


async def test_start_waits_when_a_connection_is_lost_in_the_middle_of_a_message(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = asyncpg.connect
    errors = [asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")]

    async def lose_the_first(*arguments: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return await connect(*arguments, **options)

    monkeypatch.setattr(asyncpg, "connect", lose_the_first)
    async with opened_pool("DATABASE_URL", database.dsn, min_size=1, max_size=1) as pool:
        assert await pool.fetchval("SELECT 1") == 1
    assert not errors


async def test_question_is_asked_once_when_the_database_refuses_it_or_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Exception] = []

    async def fail(error: Exception) -> None:
        asked.append(error)
        raise error

    with pytest.raises(asyncpg.UndefinedTableError):
        await patiently(lambda: fail(asyncpg.UndefinedTableError("no")))
    monkeypatch.setattr(start, "DATABASE_WAIT_S", -1.0)
    with pytest.raises(ConnectionResetError):
        await patiently(lambda: fail(ConnectionResetError()))
    assert len(asked) == 2


async def test_start_ends_when_a_migration_is_pending(database: Database) -> None:
    assert await check_schema(database.pool) in ("apache-2", "community")
    await database.pool.execute("DELETE FROM schema_migration WHERE version = 3")
    with pytest.raises(MigrationError, match="run `tidegauge migrate` first"):
        await check_schema(database.pool)
