"""Sessions whose process has stopped in the middle of a COPY, while a flush of another waits for their locks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from app.db import pool as pool_module
from app.db.pool import Connection, connect
from app.db.servers import stalled
from app.db.servers.stalled import end_stalled_sessions
from tests.conftest import YESTERDAY_AT_8_MS, Database, Server, wait_until

#: Whether a session has stored rows and waits for more.
HAS_INSERTED = """
SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND backend_xid IS NOT NULL AND wait_event = 'ClientRead'
"""
READING = [{"sensor": "s", "time": YESTERDAY_AT_8_MS, "values": {"m": 1}}]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    lock_timeout_s = float(pool_module._SETTINGS["lock_timeout"].removesuffix("s"))
    assert stalled.STALLED_S + stalled.LOOK_EVERY_S < lock_timeout_s <= 15
    monkeypatch.setattr(stalled, "STALLED_S", 0.3)
    monkeypatch.setattr(stalled, "LOOK_EVERY_S", 3_600.0)  # the server's own job; the tests look themselves


async def test_flush_goes_on_when_the_session_that_it_waits_for_has_stopped_in_a_copy(
    server: Server, database: Database
) -> None:
    series_id = await _make_series(server, database)
    async with _stopped_in_copy(database, "tidegauge ingest", series_id) as session:
        sent = asyncio.create_task(server.post_readings(READING))
        await _until_blocked(database)
        await asyncio.sleep(0.4)
        with capture_logs() as logs:
            await end_stalled_sessions(database.pool)
        assert (await sent).status == 200
        await wait_until(session.is_closed)
    (line,) = [line for line in logs if line["event"] == "stalled_session_ended"]
    assert (line["log_level"], line["session"]) == ("warning", "tidegauge ingest")
    assert await database.pool.fetchval("SELECT count(*) FROM reading WHERE value = 1") == 1


async def test_session_is_left_alone_when_nobody_waits_for_it(server: Server, database: Database) -> None:
    series_id = await _make_series(server, database)
    async with _stopped_in_copy(database, "tidegauge ingest", series_id) as session:
        await asyncio.sleep(0.4)
        await end_stalled_sessions(database.pool)
        await asyncio.sleep(0.1)
        assert not session.is_closed()


@pytest.mark.parametrize(("name", "stalled_s"), [("somebody else", 0.3), ("tidegauge ingest", 30.0)])
async def test_session_is_left_alone_when_it_is_not_ours_or_has_just_begun_to_wait(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch, name: str, stalled_s: float
) -> None:
    monkeypatch.setattr(stalled, "STALLED_S", stalled_s)
    series_id = await _make_series(server, database)
    async with _stopped_in_copy(database, name, series_id) as session:
        sent = asyncio.create_task(server.post_readings(READING))
        await _until_blocked(database)
        await asyncio.sleep(0.4)
        await end_stalled_sessions(database.pool)
        await asyncio.sleep(0.1)
        assert not session.is_closed()
    assert (await sent).status == 200


async def _make_series(server: Server, database: Database) -> int:
    """Store a reading of the series, so that its flushes need nothing but the key; return the id of the series."""
    first = [{"sensor": "s", "time": YESTERDAY_AT_8_MS - 60_000, "values": {"m": 0}}]
    assert (await server.post_readings(first)).status == 200
    series_id: int = await database.pool.fetchval("SELECT id FROM series")
    return series_id


@asynccontextmanager
async def _stopped_in_copy(database: Database, name: str, series_id: int) -> AsyncIterator[Connection]:
    """Begin to copy the reading that a flush will bring, and send no more, until the block ends."""
    connection: Connection = await connect(database.dsn, application_name=name)
    never = asyncio.Event()

    async def rows() -> AsyncIterator[bytes]:
        # More than PostgreSQL gathers before it inserts.
        yield b"".join(b"%d\t%s\t2\n" % (series_id, _time(second)) for second in range(2_000))
        await never.wait()

    transaction = connection.transaction()
    await transaction.start()
    columns = ("series_id", "time", "value")
    copying = asyncio.create_task(connection.copy_to_table("reading", source=rows(), columns=columns))
    try:
        async with asyncio.timeout(20):
            while not await database.pool.fetchval(HAS_INSERTED, connection.get_server_pid()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield connection
    finally:
        connection.terminate()
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)


def _time(second: int) -> bytes:
    return datetime.fromtimestamp(YESTERDAY_AT_8_MS // 1_000 + second, UTC).isoformat().encode()


async def _until_blocked(database: Database) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND application_name = 'tidegauge ingest'"
    )
    async with asyncio.timeout(10):
        while not await database.pool.fetchval(waiting):  # noqa: ASYNC110 -- the database sends no event
            await asyncio.sleep(0.01)
