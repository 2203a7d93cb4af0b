"""Migrations on real databases: fresh, repeated, all at once, edited, unknown, failing."""

import asyncio

import asyncpg
import pytest

from app.db.migrations import Migration, MigrationError, list_pending, load_migrations, migrate
from app.db.pool import connect

NAMES = [migration.name for migration in load_migrations()]


async def pending(dsn: str) -> list[str]:
    connection = await connect(dsn)
    try:
        return await list_pending(connection)
    finally:
        await connection.close()


async def run(dsn: str, statement: str) -> None:
    connection = await connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_migrate_applies_everything_once_when_repeated(empty_dsn: str) -> None:
    assert await pending(empty_dsn) == NAMES
    assert await migrate(empty_dsn) == [*NAMES, "aggregates"]
    assert await pending(empty_dsn) == []
    assert await migrate(empty_dsn) == []


async def test_migrate_applies_everything_once_when_six_start_together(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn) for _ in range(6)))
    assert sorted(applied, key=len) == [[], [], [], [], [], [*NAMES, "aggregates"]]


async def test_migrate_refuses_when_an_applied_file_was_edited(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    first, *rest = load_migrations()
    edited = [Migration(first.version, first.name, first.sql + "\n-- one more line\n"), *rest]
    with pytest.raises(MigrationError, match=f"{first.name} was edited after it was applied"):
        await migrate(empty_dsn, migrations=edited)


async def test_migrate_refuses_when_the_database_is_newer_than_the_program(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    await run(empty_dsn, "INSERT INTO schema_migration VALUES (9999, '9999_from_the_future.sql', 'x')")
    with pytest.raises(MigrationError, match="9999_from_the_future.sql, which this version of Tidegauge does not know"):
        await migrate(empty_dsn)


async def test_migrate_leaves_nothing_behind_when_a_file_fails_halfway(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    broken = Migration(len(NAMES) + 1, "9999_broken.sql", "CREATE TABLE half (a int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_dsn, migrations=[*load_migrations(), broken])
    connection = await connect(empty_dsn)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT count(*) FROM schema_migration") == len(NAMES)
    await connection.close()
