"""Databases that were restored from a dump: as a whole, and without the functions of TimescaleDB."""

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.db.edition import detect_edition
from app.db.embedded.programs import ensure_programs
from app.db.migrations import migrate
from app.db.pool import connect
from app.db.servers.restored import RestoreError, check_restored
from tests.conftest import Database
from tests.db.aggregate_checks import check_aggregates, make_rows, store
from tests.processes import keys, tidegauge

AGAIN = "Restore the dump again, into an empty database, as docs/backup.md says"
WAITING = (
    "The database still waits for the end of a restore: restored without timescaledb_post_restore(). "
    "Run SELECT timescaledb_post_restore()"
)


@pytest.fixture
async def dump(database: Database, tmp_path: Path) -> Path:
    """The dump of a database with readings of 40 days, in the custom format.

    Its aggregates were built a second time, so TimescaleDB numbers them otherwise than in a new database.
    """
    async with database.pool.acquire() as connection:
        await store(connection, make_rows(datetime.now(UTC)))
        await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
    await migrate(database.dsn)
    async with database.pool.acquire() as connection:
        if await detect_edition(connection) == "community":
            old = "SELECT compress_chunk(chunk) FROM show_chunks('reading', older_than => INTERVAL '20 days') AS chunk"
            await connection.execute(old)
    path = tmp_path / "tidegauge.dump"
    await run("pg_dump", database.dsn, "--format=custom", f"--file={path}")
    return path


async def run(program: str, *arguments: str, may_fail: bool = False) -> None:
    """Run a program of PostgreSQL."""
    process = await asyncio.create_subprocess_exec(
        str(ensure_programs(lambda line: None).bin / program), *arguments, stderr=subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 0 or may_fail, err.decode()


async def call(dsn: str, *statements: str) -> None:
    """Run statements, each in a session of its own."""
    for statement in statements:
        connection = await connect(dsn)
        await connection.execute(statement)
        await connection.close()


async def find_fault(dsn: str) -> str:
    """Return what is wrong with a restored database."""
    connection = await connect(dsn)
    try:
        with pytest.raises(RestoreError) as fault:
            await check_restored(connection)
    finally:
        await connection.close()
    return str(fault.value)


async def test_database_is_whole_when_it_was_restored_between_both_functions(dump: Path, empty_dsn: str) -> None:
    await call(empty_dsn, "CREATE EXTENSION timescaledb", "SELECT timescaledb_pre_restore()")
    await run("pg_restore", f"--dbname={empty_dsn}", "--no-owner", "--exit-on-error", str(dump))
    await call(empty_dsn, "SELECT timescaledb_post_restore()")
    assert await migrate(empty_dsn) == []
    connection = await connect(empty_dsn)
    try:
        await check_restored(connection)
        await check_aggregates(connection)
        await connection.execute("INSERT INTO reading VALUES (9, now(), 1)")
        assert await connection.fetchval("SELECT count(*) FROM reading WHERE series_id = 9") == 1
        assert await connection.fetchval("SELECT pg_relation_size('reading')") == 0
    finally:
        await connection.close()


async def test_every_command_says_what_to_do_when_the_restore_was_not_ended(
    dump: Path, empty_dsn: str, tmp_path: Path
) -> None:
    await call(empty_dsn, "CREATE EXTENSION timescaledb", "SELECT timescaledb_pre_restore()")
    await run("pg_restore", f"--dbname={empty_dsn}", "--no-owner", "--exit-on-error", str(dump))
    assert await find_fault(empty_dsn) == WAITING
    for arguments in (("migrate",), ("migrate", "--check"), ("serve",), ("doctor", "--json")):
        ran = await asyncio.to_thread(tidegauge, tmp_path, *arguments, DATABASE_URL=empty_dsn, **keys())
        assert ran.code == 1, arguments
        assert WAITING in ran.out + ran.err, arguments
    await call(empty_dsn, "SELECT timescaledb_post_restore()")
    assert await migrate(empty_dsn) == []


async def test_fault_is_named_when_a_dump_was_restored_over_a_migrated_database(dump: Path, empty_dsn: str) -> None:
    await migrate(empty_dsn)
    await run("pg_restore", f"--dbname={empty_dsn}", "--no-owner", str(dump), may_fail=True)
    fault = await find_fault(empty_dsn)
    assert fault.endswith(f" chunks, whose rows nobody sees: restored without timescaledb_pre_restore(). {AGAIN}")


async def test_fault_is_named_when_a_dump_was_restored_without_pre_restore(dump: Path, empty_dsn: str) -> None:
    await run("pg_restore", f"--dbname={empty_dsn}", "--no-owner", str(dump), may_fail=True)
    connection = await connect(empty_dsn)
    try:
        if await detect_edition(connection) == "apache-2":
            # Without compressed chunks and continuous aggregates nothing is lost.
            await check_restored(connection)
            await check_aggregates(connection)
            return
    finally:
        await connection.close()
    assert await find_fault(empty_dsn) == (
        f"The table reading lacks its primary key: restored without timescaledb_pre_restore(). {AGAIN}"
    )


async def test_fault_is_named_when_readings_lie_beside_the_chunks(database: Database) -> None:
    await call(database.dsn, "SELECT timescaledb_pre_restore()")
    connection = await connect(database.dsn)
    try:
        if await detect_edition(connection) == "apache-2":
            # This edition refuses to store readings during a restore.
            await connection.execute("ALTER TABLE reading DISABLE TRIGGER ts_insert_blocker")
        await connection.execute("INSERT INTO reading VALUES (1, now(), 1)")
    finally:
        await connection.close()
    await call(database.dsn, "SELECT timescaledb_post_restore()")
    assert await find_fault(database.dsn) == (
        "Readings lie in the table reading beside its chunks, where nobody sees them: stored before "
        f"timescaledb_post_restore() was called. {AGAIN}"
    )


async def test_database_without_our_tables_is_not_taken_for_a_restored_one(empty_dsn: str) -> None:
    connection = await connect(empty_dsn)
    try:
        await check_restored(connection)
    finally:
        await connection.close()
