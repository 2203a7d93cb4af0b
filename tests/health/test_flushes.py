"""Readiness while uploads cannot be stored: flushes that hang or fail, and writes that fail while no uploads come."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from app import services
from app.health import probe
from app.ingest import intake
from tests.conftest import Database, Server, running_server, wait_until
from tests.health.test_ready import ready, settings_for

READING = [{"sensor": "s", "values": {"m": 1}}]


@pytest.fixture
async def rare(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server that takes a flush of 0.3 s for one that hangs, and whose beat does not come during a test."""
    monkeypatch.setattr(probe, "FLUSH_S", 0.3)
    monkeypatch.setattr(services, "BEAT_EVERY_S", 3_600)
    async with running_server(settings_for(database)) as server:
        yield server


@pytest.fixture
async def quick(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server that beats ten times a second, and takes a beat of 0.5 s for one that hangs."""
    monkeypatch.setattr(services, "BEAT_EVERY_S", 0.1)
    monkeypatch.setattr(intake, "BEAT_TIMEOUT_S", 0.5)
    async with running_server(settings_for(database)) as server:
        yield server


@asynccontextmanager
async def locked(database: Database, table: str, mode: str = "ACCESS EXCLUSIVE") -> AsyncIterator[None]:
    """Hold a lock on a table until the block ends."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE ONLY {table} IN {mode} MODE")
            yield
    finally:
        await connection.close()


async def until_ready(server: Server) -> None:
    async with asyncio.timeout(10):
        while (await ready(server))[0] != 200:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0.05)


async def test_ready_names_the_problem_while_a_flush_hangs(rare: Server, database: Database) -> None:
    async with locked(database, "series_state"):
        upload = asyncio.create_task(rare.post_readings(READING))
        await wait_until(lambda: rare.services.ingest.writer.oldest_flush_s > 0.3)
        status, answer = await ready(rare)
        assert status == 503
        (problem,) = answer["problems"]
        assert re.fullmatch(r"flush: one is under way for \d s; uploads are not stored", problem)
        assert answer["database"] is True
    assert (await upload).status == 200
    assert (await ready(rare))[0] == 200


async def test_ready_names_no_problem_when_a_flush_takes_long_while_beats_succeed(
    quick: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "FLUSH_S", 0.3)
    assert (await quick.post_readings(READING)).status == 200
    connection = await asyncpg.connect(database.dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM series_state FOR UPDATE")
            upload = asyncio.create_task(quick.post_readings(READING))
            await wait_until(lambda: quick.services.ingest.writer.oldest_flush_s > 0.6)
            assert (await ready(quick))[0] == 200
    finally:
        await connection.close()
    assert (await upload).status == 200


async def test_ready_names_the_problem_after_a_failed_flush_until_one_succeeds(
    rare: Server, database: Database
) -> None:
    await database.pool.execute("ALTER TABLE feed ADD CONSTRAINT none CHECK (kind <> 'readings') NOT VALID")
    assert (await rare.post_readings(READING)).status >= 500
    status, answer = await ready(rare)
    assert status == 503
    (problem,) = answer["problems"]
    assert problem.startswith("flush: the last one failed, and nothing was stored since: CheckViolationError(")
    await database.pool.execute("ALTER TABLE feed DROP CONSTRAINT none")
    assert (await rare.post_readings(READING)).status == 200
    assert (await ready(rare))[0] == 200


async def test_ready_forgets_a_failed_flush_when_a_beat_succeeds_and_no_uploads_come(
    quick: Server, database: Database
) -> None:
    await database.pool.execute("ALTER TABLE dirty RENAME TO away")
    assert (await quick.post_readings(READING)).status >= 500
    await wait_until(lambda: bool(quick.services.jobs.list_problems()))
    assert (await ready(quick))[0] == 503
    await database.pool.execute("ALTER TABLE away RENAME TO dirty")
    await until_ready(quick)
    assert quick.services.ingest.writer.failure is not None


@pytest.mark.parametrize("table", ["sensor", "series", "reading", "series_state", "dirty", "late_day", "feed"])
async def test_ready_names_the_problem_when_somebody_locks_what_flushes_write_and_no_uploads_come(
    quick: Server, database: Database, table: str
) -> None:
    async with locked(database, table, "SHARE"):
        await wait_until(lambda: bool(quick.services.jobs.list_problems()))
        status, answer = await ready(quick)
        assert (status, answer["database"]) == (503, True)
        assert answer["problems"][0].startswith("job beat failed ")
    await until_ready(quick)


async def test_ready_names_the_problem_when_the_database_only_reads(quick: Server, database: Database) -> None:
    name = await database.pool.fetchval("SELECT current_database()")
    await database.pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await database.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", name
    )
    async with asyncio.timeout(10):
        while "database: it only reads" not in str((await ready(quick))[1].get("problems")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await ready(quick))[0] == 503


async def test_beat_is_no_problem_when_a_flush_is_under_way(quick: Server, database: Database) -> None:
    """The locks of a beat are those of a flush, so the two do not wait for each other."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'k')")
            await connection.execute("INSERT INTO feed (kind, n, payload) VALUES ('readings', 0, '')")
            before = quick.services.jobs.states["beat"].last_success
            await wait_until(lambda: quick.services.jobs.states["beat"].last_success != before)
    finally:
        await connection.close()
    assert quick.services.jobs.list_problems() == []
