"""Migrations: applied once, by the first process, each completely or not at all."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.db import migrations
from app.db.migrations import LockedError, Migration, MigrationError, list_pending, load_migrations, migrate
from app.db.pool import Connection, connect
from tests.conftest import Database, project_folder

FILES = load_migrations()
NAMES = [migration.name for migration in FILES]
NEXT = len(FILES) + 1


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection to a migrated database."""
    async with database.pool.acquire() as connection:
        yield connection


def test_files_are_numbered_without_gaps_when_loaded() -> None:
    assert [migration.version for migration in FILES] == list(range(1, NEXT))
    assert all(name.startswith(f"{number:04}_") for number, name in enumerate(NAMES, start=1))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0003_c.sql"], "0003_c.sql should be named 0002_what_it_does.sql"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql should be named 0002_what_it_does.sql"),
        (["0002_a.sql"], "0002_a.sql should be named 0001_what_it_does.sql"),
        (["1_a.sql"], "1_a.sql should be named 0001_what_it_does.sql"),
        (["0001-a.sql"], "0001-a.sql should be named 0001_what_it_does.sql"),
    ],
)
def test_files_are_refused_when_wrongly_numbered(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError) as refusal:
        load_migrations(tmp_path)
    assert str(refusal.value) == message


async def test_database_is_unchanged_when_migrated_again(empty_dsn: str) -> None:
    assert await migrate(empty_dsn) == [*NAMES, "aggregates"]
    assert await migrate(empty_dsn) == []


async def test_database_is_migrated_once_when_six_processes_start_at_the_same_time(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn) for _ in range(6)))
    assert sorted(applied, key=len) == [[], [], [], [], [], [*NAMES, "aggregates"]]


async def test_migration_outside_a_transaction_is_applied_when_others_wait_for_the_lock(database: Database) -> None:
    # CREATE INDEX CONCURRENTLY waits for every open transaction, so the others must not wait in one.
    sql = "-- outside a transaction\nCREATE INDEX CONCURRENTLY later ON sensor (gateway)"
    wanted = [*FILES, Migration(NEXT, "later.sql", sql)]
    applied = await asyncio.gather(*(migrate(database.dsn, migrations=wanted) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["later.sql"]]
    assert await database.pool.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'later'::regclass")


async def test_pending_lists_missing_migrations_before_during_and_after_migrating(empty_dsn: str) -> None:
    connection = await connect(empty_dsn)
    assert await list_pending(connection) == NAMES
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    await migrate(empty_dsn, migrations=FILES)
    assert await list_pending(connection) == []
    await connection.execute("DELETE FROM schema_migration WHERE version = $1", NEXT - 1)
    assert await list_pending(connection) == NAMES[-1:]
    await connection.close()


async def test_database_is_refused_when_an_applied_file_was_edited(database: Database, connection: Connection) -> None:
    await connection.execute("UPDATE schema_migration SET sha256 = 'edited' WHERE version = 2")
    message = "0002_feed.sql was edited after it was applied. Restore the file and put the change into a new migration."
    for refusing in (list_pending(connection), migrate(database.dsn)):
        with pytest.raises(MigrationError) as refusal:
            await refusing
        assert str(refusal.value) == message


async def test_database_is_refused_when_a_newer_version_migrated_it(database: Database, connection: Connection) -> None:
    await connection.execute("INSERT INTO schema_migration VALUES (9000, '9000_future.sql', 'x')")
    message = (
        "The database has migration 9000_future.sql, which this version of Tidegauge does not know. "
        "Run the version that wrote it, or a newer one."
    )
    for refusing in (list_pending(connection), migrate(database.dsn)):
        with pytest.raises(MigrationError) as refusal:
            await refusing
        assert str(refusal.value) == message


async def test_migration_is_rolled_back_and_earlier_ones_stay_when_it_fails(
    database: Database, connection: Connection
) -> None:
    good = Migration(NEXT, "good.sql", "CREATE TABLE good (id int)")
    bad = Migration(NEXT + 1, "bad.sql", "CREATE TABLE half (id int); INSERT INTO half VALUES (1); SELECT 1 / 0")
    for _ in range(2):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(database.dsn, migrations=[*FILES, good, bad])
    tables = "SELECT to_regclass('good') IS NOT NULL, to_regclass('half') IS NOT NULL"
    assert tuple(await connection.fetchrow(tables) or ()) == (True, False)
    assert await connection.fetchval("SELECT max(version) FROM schema_migration") == NEXT
    corrected = Migration(NEXT + 1, "bad.sql", "CREATE TABLE half (id int)")
    assert await migrate(database.dsn, migrations=[*FILES, good, corrected]) == ["bad.sql"]
    assert tuple(await connection.fetchrow(tables) or ()) == (True, True)


async def test_waiting_process_migrates_when_the_one_before_fails(database: Database) -> None:
    bad = [*FILES, Migration(NEXT, "next.sql", "SELECT pg_sleep(0.2); SELECT 1 / 0")]
    good = [*FILES, Migration(NEXT, "next.sql", "CREATE TABLE next (id int)")]
    failing = asyncio.create_task(migrate(database.dsn, migrations=bad))
    async with asyncio.timeout(20):
        while not await database.pool.fetchval("SELECT count(*) FROM migration_lock"):
            pass
    assert await migrate(database.dsn, migrations=good) == ["next.sql"]
    with pytest.raises(asyncpg.DivisionByZeroError):
        await failing


async def test_migration_gives_way_to_uploads_and_is_applied_when_a_lock_is_free_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [*FILES, Migration(NEXT, "next.sql", "ALTER TABLE sensor ADD COLUMN next int")]
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_S", 1)
    reader = await asyncpg.connect(database.reader_dsn)
    await reader.execute("BEGIN; LOCK TABLE sensor IN ACCESS SHARE MODE")
    migrating = asyncio.create_task(migrate(database.dsn, migrations=wanted))
    async with asyncio.timeout(10):
        while not await database.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
        # Waits behind the migration, which gives way.
        await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'k')")
    assert not migrating.done()
    await reader.close()
    assert await migrating == ["next.sql"]


async def test_migration_says_so_when_a_lock_does_not_become_free(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [*FILES, Migration(NEXT, "next.sql", "ALTER TABLE sensor ADD COLUMN next int")]
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_S", 1)
    monkeypatch.setattr(migrations, "LOCKED_S", 0)
    reader = await asyncpg.connect(database.reader_dsn)
    await reader.execute("BEGIN; LOCK TABLE sensor IN ACCESS SHARE MODE")
    with pytest.raises(LockedError, match="A lock was not free for 0 s: canceling statement due to lock timeout"):
        await migrate(database.dsn, migrations=wanted)
    await reader.close()


def test_command_has_exit_code_1_when_something_is_pending(empty_dsn: str) -> None:
    assert _run(empty_dsn, "--check") == (1, [f"pending: {name}" for name in NAMES])
    assert _run(empty_dsn) == (0, [f"applied: {', '.join(NAMES)}, aggregates"])
    assert _run(empty_dsn, "--check") == (0, [])


def _run(dsn: str, *options: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "app", "migrate", *options],
        cwd=project_folder(),
        env={**os.environ, "DATABASE_URL": dsn, "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.splitlines()
