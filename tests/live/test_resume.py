"""/ws/live over real sockets: a client that resumes gets exactly the frames that it missed, or a resync."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest

from app.live import listener
from app.live.retention import prune_feed
from tests.conftest import Database, Server
from tests.live.clients import (
    expect_resync,
    live,
    now_ms,
    post,
    seq_of,
    serving,
)


async def test_live_sends_exactly_what_was_missed_when_it_resumes(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        await post(server, "s", 1)
        await client.values(1)
        cursor = client.cursor
    await post(server, "s", 2)
    await post(server, "s", 3)
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        await post(server, "s", 4)
        assert [value[3] for value in await client.values(3)] == [2, 3, 4]


async def test_live_sends_exactly_what_was_missed_when_the_server_was_restarted(database: Database) -> None:
    async with serving(database.dsn) as server:
        async with live(server) as client:
            await client.snapshot()
            await post(server, "s", 1)
            await client.values(1)
        await post(server, "s", 2)
    async with serving(database.dsn) as server:
        await post(server, "s", 3)
        async with live(server) as back:
            await back.subscribe(resume=client.cursor)
            assert [value[3] for value in await back.values(2)] == [2, 3]


async def test_live_sends_all_pages_in_order_when_it_resumes_while_readings_come_in(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAGE_ROWS", 4)
    async with live(server) as client:
        await client.snapshot()
        cursor = client.cursor
    start = now_ms()
    for number in range(15):
        await post(server, "s", number, first_ms=start + number)
    received_all = asyncio.Event()

    async def upload() -> None:
        number = 15
        while not received_all.is_set() or number < 30:
            await post(server, "s", number, first_ms=start + number)
            number += 1

    uploading = asyncio.create_task(upload())
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        values = await client.values(30)
        received_all.set()
    await uploading
    assert [value[3] for value in values] == list(range(len(values)))


async def test_live_sends_exactly_what_was_missed_when_it_fills_many_pages(server: Server, database: Database) -> None:
    async with live(server) as client:
        await client.snapshot()
        cursor = client.cursor
    await insert_frames(database, 450)
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        assert [value[3] for value in await client.values(450)] == list(range(450))


async def insert_frames(database: Database, count: int) -> None:
    """Insert feed rows like those of flushes, without storing the readings."""
    frames = [
        (1, msgspec.json.encode({"readings": [{"sensor": "s", "time": "2026-11-21T08:00:00Z", "values": {"m": n}}]}))
        for n in range(count)
    ]
    await database.pool.executemany("INSERT INTO feed (kind, n, payload) VALUES ('readings', $1, $2)", frames)


async def test_live_sends_resync_when_the_cursor_was_pruned(server: Server, database: Database) -> None:
    async with live(server) as client:
        await client.snapshot()
        cursor = client.cursor
    await post(server, "s", 1)
    await post(server, "s", 2)
    await prune_feed(database.pool, payload_bytes=1)
    await expect_resync(server, cursor)


async def test_live_resumes_when_the_cursor_is_the_last_row_that_was_pruned(server: Server, database: Database) -> None:
    async with live(server) as client:
        await client.snapshot()
        await post(server, "s", 1)
        await client.values(1)
        cursor = client.cursor
    await post(server, "s", 2)
    await prune_feed(database.pool, payload_bytes=1)
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        assert [value[3] for value in await client.values(1)] == [2]


async def test_live_sends_resync_when_the_cursor_is_impossible(server: Server) -> None:
    await post(server, "s", 1)
    async with live(server) as client:
        await client.snapshot()
    epoch, seq = client.cursor.partition(".")[0], seq_of(client.cursor)
    future = f"{epoch}.{seq + 1_000}"
    foreign = f"0123456789ab.{seq}"
    for cursor in (future, foreign, f"{epoch}.-1", "", "nonsense", f"{epoch}.{'9' * 40}", "..", f"{epoch}.١"):
        await expect_resync(server, cursor)


async def test_live_sends_resync_when_the_cursor_is_from_the_original_of_a_copied_database(
    database: Database, server_dsn: str
) -> None:
    """A restored copy assigns the same sequence numbers again, to other readings."""
    async with serving(database.dsn) as server, live(server) as client:
        await client.snapshot()
        await post(server, "s", 1)
        await client.values(1)
    await database.pool.close()
    async with copied(database.dsn, server_dsn) as dsn, serving(dsn) as server:
        await post(server, "s", 2)
        await expect_resync(server, client.cursor)


@asynccontextmanager
async def copied(dsn: str, server_dsn: str) -> AsyncIterator[str]:
    name = urlsplit(dsn).path.removeprefix("/")
    connection = await asyncpg.connect(server_dsn)
    try:
        # A background worker of a Community server would stay connected, and a database in use cannot be copied.
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await connection.execute(f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}" STRATEGY file_copy')
        yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}_copy"))
    finally:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}_copy" WITH (FORCE)')
        await connection.close()


async def test_live_resumes_when_the_client_comes_from_another_process_that_is_ahead(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (4.0,))
    async with serving(database.dsn) as ahead, live(ahead) as client:
        (pid,) = await listener_pids(database)
        async with serving(database.dsn) as behind:
            await client.snapshot()
            (other,) = await listener_pids(database) - {pid}
            await database.pool.execute("SELECT pg_terminate_backend($1)", other)
            await post(ahead, "s", 1)
            await client.values(1)
            assert behind.services.hub.head < seq_of(client.cursor)
            async with live(behind) as moved:
                await moved.subscribe(resume=client.cursor)
                await post(ahead, "s", 2)
                assert [value[3] for value in await moved.values(1)] == [2]


async def listener_pids(database: Database) -> set[int]:
    rows = await database.pool.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1",
        "tidegauge listener",
    )
    return {row["pid"] for row in rows}
