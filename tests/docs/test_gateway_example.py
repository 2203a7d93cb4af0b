"""examples/gateway.py against a real server that is cut off and killed, while the client is killed, too."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

from app.db.pool import Pool, connect
from tests.conftest import API_KEY, Database, Server, wait_until
from tests.docs.example_process import Example, running_example
from tests.ports import free_port
from tests.processes import running
from tests.wire import wire_to


def gateway(folder: Path, url: str, *options: str, key: str = API_KEY) -> AbstractAsyncContextManager[Example]:
    """Run the client with quick, small batches."""
    return running_example(folder, "gateway.py", "--url", url, "--every", "0", *options, key=key)


def lines(first: int, count: int) -> list[str]:
    """Write readings that can be told apart by their values."""
    return [json.dumps({"sensor": "cellar", "values": {"level": value}}) for value in range(first, first + count)]


async def test_gateway_loses_and_doubles_nothing_when_killed_with_an_answer_on_its_way(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with wire_to(server.address) as wire:
        await wire.cut()
        async with gateway(tmp_path, wire.url, "--batch", "100") as client:
            await client.write(*lines(0, 300))
            await wait_until(lambda: len(buffered(tmp_path)) == 300)
            await client.see_note("the readings are kept")
            async with stalled_flush(database) as release:
                await wire.mend()
                await until_flush_waits(database.pool)
                wire.freeze()
                await release()
                await until_stored(database.pool, 100)
            # The server has the first batch, and the client does not know it.
            await client.kill()
        assert len(buffered(tmp_path)) == 300
        await wire.cut()
        await wire.mend()
        async with gateway(tmp_path, wire.url, "--batch", "100") as client:
            assert await client.end_input() == 0
    assert await stored(database.pool) == [float(value) for value in range(300)]
    assert buffered(tmp_path) == []
    assert "tidegauge_values_duplicate_total 100.0" in server.services.metrics.render().decode()


async def test_gateway_goes_on_by_itself_when_the_server_is_killed_and_started_again(
    database: Database, tmp_path: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    async with gateway(tmp_path, address, "--batch", "50") as client:
        async with running(tmp_path / "first", "serve", port=port, DATABASE_URL=database.dsn) as server:
            await client.write(*lines(0, 50))
            await until_stored(database.pool, 50)
            await client.write(*lines(50, 500))
            await until_stored(database.pool, 100)
            await server.end(signal.SIGKILL)
        await client.write(*lines(550, 50))
        async with running(tmp_path / "second", "serve", port=port, DATABASE_URL=database.dsn):
            assert await client.end_input() == 0
    assert await stored(database.pool) == [float(value) for value in range(600)]


async def test_gateway_sets_bad_readings_aside_and_sends_the_rest_when_there_are_more_than_are_listed(
    server: Server, database: Database, tmp_path: Path
) -> None:
    bad = [json.dumps({"sensor": "roof", "values": {"level": None}})] * 150
    async with gateway(tmp_path, server.address) as client:
        await client.write(
            "no reading", "[1]", *(line for pair in zip(lines(0, 150), bad, strict=True) for line in pair)
        )
        assert await client.end_input() == 0
    assert await stored(database.pool) == [float(value) for value in range(150)]
    refusals = [refused for _, refused in buffered(tmp_path)]
    assert len(refusals) == 150
    assert set(refusals) == {"value_not_a_number: level is null; send a number, or leave the metric out"}
    assert client.notes[:2] == ["not a reading: no reading", "not a reading: [1]"]

    async with gateway(tmp_path, server.address, "--refused-again") as client:
        assert await client.end_input() == 0
    assert len(buffered(tmp_path)) == 150


async def test_gateway_keeps_its_readings_when_the_key_is_refused(
    server: Server, database: Database, tmp_path: Path
) -> None:
    async with gateway(tmp_path, server.address, key="wrong") as client:
        await client.write(*lines(0, 3))
        await client.see_note("the server answered 401")
        await wait_until(lambda: len(buffered(tmp_path)) == 3)
        await client.kill()
    async with gateway(tmp_path, server.address) as client:
        assert await client.end_input() == 0
    assert await stored(database.pool) == [0.0, 1.0, 2.0]


async def test_gateway_drops_the_oldest_and_says_so_when_the_buffer_is_full(tmp_path: Path) -> None:
    dropped = "the buffer is full: 1 of the oldest readings dropped"
    async with gateway(tmp_path, f"http://127.0.0.1:{free_port()}", "--limit", "10") as client:
        await client.write(*lines(0, 12))
        await wait_until(lambda: client.notes.count(dropped) == 2)
        await client.kill()
    assert [json.loads(body)["values"]["level"] for body, _ in buffered(tmp_path)] == list(range(2, 12))


def buffered(folder: Path) -> list[tuple[str, str | None]]:
    """Return the readings in the buffer, each with why it was refused."""
    file = folder / "gateway.db"
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return connection.execute("SELECT body, refused FROM reading ORDER BY id").fetchall()
        except sqlite3.OperationalError:  # the client has not made the table yet
            return []


async def stored(pool: Pool) -> list[float]:
    """Return every stored value in order of time."""
    rows = await pool.fetch("SELECT value FROM reading WHERE time > '-infinity' ORDER BY time")
    return [row["value"] for row in rows]


async def until_stored(pool: Pool, count: int) -> None:
    """Wait until at least so many values are stored."""
    async with asyncio.timeout(20):
        while len(await stored(pool)) < count:  # noqa: ASYNC110 -- another process stores them
            await asyncio.sleep(0.01)


async def until_flush_waits(pool: Pool) -> None:
    """Wait until a flush waits for the lock of `stalled_flush`."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'feed'::regclass"
    async with asyncio.timeout(20):
        while not await pool.fetchval(query):  # noqa: ASYNC110 -- another process waits
            await asyncio.sleep(0.01)


@asynccontextmanager
async def stalled_flush(database: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold up every flush shortly before its commit, until the function that this gives is called."""
    connection = await connect(database.dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE feed IN EXCLUSIVE MODE")
        yield transaction.rollback
    finally:
        await connection.close()
