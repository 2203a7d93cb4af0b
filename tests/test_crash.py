"""Killed processes: no acknowledged reading is lost or repeated, and the next start recovers without help."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from app.db.embedded.cluster import cluster_folder
from tests.conftest import API_KEY_WS, YESTERDAY, YESTERDAY_AT_8_MS, Database, wait_until
from tests.ports import free_port
from tests.processes import ServerProcess, data_folder, postgres_processes, running, started

UPLOADERS = 4
BATCH = 25

Value = tuple[str, int]


class Ingest:
    """Gateways that send batch after batch and repeat each batch until the server acknowledges it."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.acknowledged: set[Value] = set()
        self.retries = 0
        self._is_over = False
        self._gateways = [asyncio.create_task(self._upload(number)) for number in range(UPLOADERS)]

    async def finish(self) -> None:
        """Wait until every gateway has finished its present batch."""
        self._is_over = True
        await asyncio.gather(*self._gateways)

    async def cancel(self) -> None:
        """Stop all gateways at once."""
        for gateway in self._gateways:
            gateway.cancel()
        await asyncio.gather(*self._gateways, return_exceptions=True)

    async def _upload(self, number: int) -> None:
        batch_number = 0
        while not self._is_over:
            values = range(batch_number * BATCH, (batch_number + 1) * BATCH)
            readings = [
                {"sensor": f"pi{number}", "time": YESTERDAY_AT_8_MS + value, "values": {"level": value}}
                for value in values
            ]
            while await self._server.post(readings) != 200:
                self.retries += 1
                await asyncio.sleep(0.05)
            self.acknowledged.update((f"pi{number}", value) for value in values)
            batch_number += 1

    async def until_more(self, batches: int) -> None:
        """Wait until this number of further batches is acknowledged."""
        enough = len(self.acknowledged) + batches * BATCH
        await wait_until(lambda: len(self.acknowledged) >= enough, 60)


class Watcher:
    """A client of the live feed that reconnects with its cursor whenever the connection ends."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cursor: str | None = None
        self.seen = Counter[Value]()
        self.resyncs = 0
        self.is_ready = asyncio.Event()

    async def watch(self) -> None:
        """Follow the feed for ever."""
        address = f"ws://127.0.0.1:{self._port}/ws/live"
        while True:
            with suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                async with connect(address, additional_headers={"X-API-Key": API_KEY_WS}) as socket:
                    await socket.send(json.dumps({"type": "subscribe", "resume": self._cursor}))
                    async for text in socket:
                        self._take(json.loads(text))
            await asyncio.sleep(0.05)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "resync":
            self.resyncs += 1
            return
        self._cursor = message["cursor"]
        self.is_ready.set()
        if message["type"] == "readings":
            for reading in message["readings"]:
                self.seen[reading["sensor"], int(reading["values"]["level"])] += 1


@asynccontextmanager
async def watched_uploads(server: ServerProcess) -> AsyncIterator[tuple[Ingest, Watcher]]:
    """Let a client follow the feed and gateways upload until the block ends."""
    watcher = Watcher(server.port)
    watching = asyncio.create_task(watcher.watch())
    try:
        await asyncio.wait_for(watcher.is_ready.wait(), 20)
        ingest = Ingest(server)
        try:
            await ingest.until_more(8)
            yield ingest, watcher
        finally:
            await ingest.cancel()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def assert_exact(dsn: str, ingest: Ingest, watcher: Watcher) -> None:
    """Let the gateways finish; compare the stored, published and received values with the acknowledged ones."""
    await ingest.finish()
    await wait_until(lambda: watcher.seen.keys() >= ingest.acknowledged)
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT sensor.name, value FROM reading JOIN series ON series.id = series_id"
            f" JOIN sensor ON sensor.id = sensor_id WHERE time >= '{YESTERDAY}'"
        )
        payloads = await connection.fetch("SELECT payload FROM feed")
    finally:
        await connection.close()
    assert Counter((row["name"], int(row["value"])) for row in rows) == Counter(ingest.acknowledged)
    published = Counter(
        (reading["sensor"], int(reading["values"]["level"]))
        for row in payloads
        for reading in json.loads(row["payload"])["readings"]
    )
    assert published == Counter(ingest.acknowledged)
    assert watcher.seen == Counter(ingest.acknowledged)
    assert watcher.resyncs == 0


def dsn_of(data_dir: Path) -> str:
    dsn: str = json.loads((data_dir / "dsn.json").read_text())["dsn"]
    return dsn


def postmaster_of(data_dir: Path) -> int:
    return int((cluster_folder(data_dir) / "data" / "postmaster.pid").read_text().splitlines()[0])


async def wait_until_database_stopped(data_dir: Path) -> None:
    """Wait until no process of the database is left."""
    await wait_until(lambda: not postgres_processes(data_dir), 20)


async def test_serve_loses_nothing_when_it_is_killed_while_readings_come_in(tmp_path: Path, database: Database) -> None:
    port = free_port()
    environ = {"DATABASE_URL": database.dsn}
    async with running(tmp_path, "serve", port=port, **environ) as first, watched_uploads(first) as (ingest, watcher):
        first.process.kill()
        async with running(tmp_path, "serve", port=port, **environ) as second:
            await ingest.until_more(8)
            await assert_exact(database.dsn, ingest, watcher)
            assert await second.end(signal.SIGTERM) == 0
    assert ingest.retries > 0


@pytest.mark.timeout(180)
async def test_up_loses_nothing_when_database_and_server_are_killed_while_readings_come_in(tmp_path: Path) -> None:
    port = free_port()
    with data_folder(tmp_path) as data_dir:
        environ = {"DATA_DIR": str(data_dir)}
        async with running(tmp_path, "up", port=port, **environ) as first, watched_uploads(first) as (ingest, watcher):
            # First only the database is killed, as when memory runs out: `up` restarts it at the same address.
            address, killed = dsn_of(data_dir), postmaster_of(data_dir)
            os.kill(killed, signal.SIGKILL)
            await ingest.until_more(8)
            assert postmaster_of(data_dir) != killed
            assert dsn_of(data_dir) == address
            assert "database_restarted" in [line["event"] for line in first.log]
            # Then the server is killed: its database ends with it, and the next start recovers without help.
            first.process.kill()
            async with running(tmp_path, "up", port=port, **environ) as second:
                await ingest.until_more(8)
                await assert_exact(dsn_of(data_dir), ingest, watcher)
                assert await second.end(signal.SIGTERM) == 0
                assert not (data_dir / "dsn.json").exists()
                await wait_until_database_stopped(data_dir)
                assert_no_secret_was_logged(second, address)
    assert ingest.retries > 0


def assert_no_secret_was_logged(server: ServerProcess, dsn: str) -> None:
    password = dsn.partition("://")[2].partition(":")[2].partition("@")[0]
    assert len(password) > 20
    assert password not in server.out + server.err
    assert API_KEY_WS not in server.out + server.err


@pytest.mark.timeout(180)
async def test_up_keeps_keys_and_data_when_stopped_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    with data_folder(tmp_path) as data_dir:
        environ = {"DATA_DIR": str(data_dir), "API_KEY": "", "API_KEY_WS": ""}

        # Stopped while it creates its database, it leaves nothing behind that disturbs the next start.
        async with started(tmp_path, "up", port=port, **environ) as early:
            await wait_until(lambda: "Creating an empty database" in early.err, 60)
            assert await early.end(signal.SIGTERM) == 130
            assert "Traceback" not in early.err
            await wait_until_database_stopped(data_dir)
            assert not (data_dir / "dsn.json").exists()

        # Without configured keys it makes its own and shows how to use it.
        async with running(tmp_path, "up", port=port, **environ) as first:
            key = word_after("API_KEY ", first.out)
            assert f"-H 'X-API-Key: {key}'" in first.out
            assert word_after("page ", first.out) == f"http://127.0.0.1:{port}/#key={key}"
            readings = [{"sensor": "cellar", "time": YESTERDAY_AT_8_MS, "values": {"level": 1}}]
            assert await first.post(readings, **{"X-API-Key": key}) == 200
            async with connect(f"ws://127.0.0.1:{port}/ws/live", additional_headers={"X-API-Key": key}) as client:
                await client.send('{"type":"subscribe"}')
                assert json.loads(await client.recv())["readings"][0]["sensor"] == "cellar"
                first.process.send_signal(signal.SIGINT)
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1012
            assert await first.wait() == 0
            assert not (data_dir / "dsn.json").exists()
            await wait_until_database_stopped(data_dir)
            first_out = first.out
            assert key not in first.err

        # The next start has the same key and the same data.
        async with running(tmp_path, "up", port=port, **environ) as second:
            assert word_after("API_KEY ", second.out.removeprefix(first_out)) == key
            assert await second.post(readings, **{"X-API-Key": key}) == 200
            stored = [line for line in second.log if line["event"] == "upload_stored"]
            assert [(line["accepted"], line["duplicates"]) for line in stored] == [(1, 0), (0, 1)]
            assert await second.end(signal.SIGTERM) == 0
            await wait_until_database_stopped(data_dir)


def word_after(name: str, text: str) -> str:
    """Return the word that `up` prints after a name."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return line.split()[1]
