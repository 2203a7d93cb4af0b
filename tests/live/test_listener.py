"""The listener against a database that ends its connection, loses notifications, or goes away and comes back."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest

from app.db.embedded.cluster import cluster_folder
from app.db.embedded.server import EmbeddedServer
from app.db.migrations import migrate
from app.live import listener
from app.live.frames import Frame
from app.live.hub import Hub
from app.live.listener import Listener
from app.live.protocol import CloseCode
from app.live.retention import prune_feed
from app.metrics import Metrics
from tests.conftest import Database, wait_until

SMALL = {"shared_buffers": "16MB", "max_connections": "20", "timescaledb.max_background_workers": "0"}


class Witness:
    """A subscriber that notes all it is offered, and whether it was sent away."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.ends: list[CloseCode] = []
        self.wants_states = False

    @property
    def seqs(self) -> list[int]:
        return [frame.cursor.seq for frame in self.frames]

    @property
    def values(self) -> list[float]:
        return [frame.readings[0].values["m"] for frame in self.frames]

    def offer(self, frame: Frame) -> None:
        self.frames.append(frame)

    def send_heartbeat(self, message: str) -> None:
        raise AssertionError("a listener sends no heartbeats")

    def change_states(self, changed: object) -> None:
        raise AssertionError("a listener knows no states")

    def close(self, code: CloseCode, reason: str) -> None:
        self.ends.append(code)


class Following:
    """A running listener and what came of it."""

    def __init__(self, dsn: str) -> None:
        self.metrics = Metrics()
        self.hub = Hub(self.metrics)
        self.listener = Listener(dsn, self.hub, self.metrics)
        self.witness = Witness()
        self.hub.add(self.witness)

    @property
    def reconnects(self) -> float:
        return self.metrics.registry.get_sample_value("tidegauge_listener_reconnects_total") or 0


@asynccontextmanager
async def following(dsn: str) -> AsyncIterator[Following]:
    running = Following(dsn)
    task = asyncio.create_task(running.listener.run())
    try:
        await asyncio.wait_for(running.listener.started.wait(), 10)
        yield running
        assert not task.done(), "the listener must see to itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def payload(number: int) -> bytes:
    return msgspec.json.encode({"readings": [{"sensor": "s", "time": "2026-11-21T08:00:00Z", "values": {"m": number}}]})


async def insert(database: Database, *numbers: int) -> None:
    rows = [(payload(number),) for number in numbers]
    await database.pool.executemany("INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, $1)", rows)


async def end_listening(database: Database) -> None:
    ended = await database.pool.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'tidegauge listener'"
    )
    assert ended == 1


async def test_listener_starts_at_the_head_when_rows_are_there(database: Database) -> None:
    await insert(database, 1, 2, 3)
    async with following(database.dsn) as running:
        assert running.hub.head == 3
        await insert(database, 4)
        await wait_until(lambda: running.witness.values == [4])
    assert running.metrics.registry.get_sample_value("tidegauge_feed_seq") == 4


async def test_listener_hears_of_a_row_at_once_when_it_is_notified(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "POLL_S", 600)
    async with following(database.dsn) as running:
        for number in range(5):
            await insert(database, number)
            await wait_until(lambda: len(running.witness.values) > number)  # noqa: B023
        lag = running.metrics.registry.get_sample_value("tidegauge_feed_lag_seconds")
    assert lag is not None
    assert 0 < lag < 5


async def test_listener_misses_nothing_when_its_connection_is_ended(database: Database) -> None:
    async with following(database.dsn) as running:
        for number in range(0, 40, 4):
            await end_listening(database)
            await insert(database, number, number + 1)
            await wait_until(lambda: running.reconnects > number / 4)  # noqa: B023
            await insert(database, number + 2, number + 3)
            await wait_until(lambda: len(running.witness.values) == number + 4)  # noqa: B023
        assert running.witness.values == list(range(40))
        assert running.witness.seqs == sorted(set(running.witness.seqs))
        assert running.witness.ends == []


async def test_listener_goes_on_when_its_connection_is_ended_while_it_is_new(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (0.01,))
    async with following(database.dsn) as running:
        for number in range(25):
            await insert(database, number)
            await end_listening(database)
            await wait_until(lambda: running.reconnects > number)  # noqa: B023
        await wait_until(lambda: len(running.witness.values) == 25)
        assert running.witness.values == list(range(25))


async def test_listener_polls_within_two_seconds_when_a_notification_is_lost(database: Database) -> None:
    async with following(database.dsn) as running, database.pool.acquire() as connection:
        # Without its trigger the row is not announced; it gets its number by hand.
        await connection.execute("SET session_replication_role = replica")
        inserted = time.monotonic()
        await connection.execute(
            "INSERT INTO feed (seq, kind, n, payload) VALUES (nextval('feed_seq'), 'readings', 1, $1)", payload(1)
        )
        await wait_until(lambda: running.witness.values == [1])
        assert time.monotonic() - inserted < 2
        await connection.execute("SET session_replication_role = origin")


async def test_listener_reads_a_long_backlog_without_a_new_connection_when_that_takes_longer_than_a_heartbeat(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAGE_ROWS", 1)
    async with following(database.dsn) as running:
        started = time.monotonic()
        await database.pool.execute(
            "INSERT INTO feed (kind, n, payload) SELECT 'readings', 1, $1 FROM generate_series(1, 500)", payload(1)
        )
        await wait_until(lambda: len(running.witness.seqs) == 500)
        took_s = time.monotonic() - started
        # Now five times as much, with less time for a heartbeat than all of it takes, and far more than a page does.
        monkeypatch.setattr(listener, "TIMEOUT_S", 2.5 * took_s)
        await database.pool.execute(
            "INSERT INTO feed (kind, n, payload) SELECT 'readings', 1, $1 FROM generate_series(1, 2500)", payload(1)
        )
        await wait_until(lambda: len(running.witness.seqs) == 3_000)
        assert running.reconnects == 0


async def test_listener_sends_clients_away_when_rows_were_pruned_while_it_was_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (1.0,))
    async with following(database.dsn) as running:
        await insert(database, 1)
        await wait_until(lambda: running.hub.head == 1)
        await end_listening(database)
        await insert(database, 2, 3)
        await prune_feed(database.pool, payload_bytes=1)
        await wait_until(lambda: running.reconnects == 1)
        assert running.witness.ends == [CloseCode.SERVICE_RESTART]
        assert running.hub.head == 3


async def test_listener_pauses_between_attempts_when_the_feed_cannot_be_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (0.2,))
    async with following(database.dsn) as running:
        await database.pool.execute("ALTER TABLE feed RENAME COLUMN payload TO hidden")
        started = time.monotonic()
        await insert_hidden(database, 1)
        await wait_until(lambda: running.reconnects >= 3)
        assert time.monotonic() - started > 0.3, "it should not hammer on a database that refuses"
        await database.pool.execute("ALTER TABLE feed RENAME COLUMN hidden TO payload")
        await wait_until(lambda: running.witness.values == [1])


async def insert_hidden(database: Database, number: int) -> None:
    await database.pool.execute("INSERT INTO feed (kind, n, hidden) VALUES ('readings', 1, $1)", payload(number))


async def test_listener_is_not_healthy_when_the_database_is_away_and_comes_back_by_itself(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(listener, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(listener, "POLL_S", 0.2)
    monkeypatch.setattr(listener, "_BACKOFF_S", (0.1,))
    await migrate(own_server.dsn)
    async with following(own_server.dsn) as running:
        await insert_once(own_server.dsn, 1)
        await wait_until(lambda: running.witness.values == [1])
        epoch = running.hub.epoch
        assert running.listener.is_healthy
        await asyncio.to_thread(crash, own_server)
        await wait_until(lambda: not running.listener.is_healthy)
        assert await asyncio.to_thread(own_server.restart_if_dead)
        await insert_once(own_server.dsn, 2)
        await wait_until(lambda: running.witness.values == [1, 2])
        assert running.listener.is_healthy
        assert running.hub.epoch == epoch
        assert running.witness.ends == []


def crash(server: EmbeddedServer) -> None:
    """Kill the postmaster, as a lack of memory would, and wait until it is gone."""
    note = cluster_folder(server.data_dir) / "data" / "postmaster.pid"
    os.kill(int(note.read_text().splitlines()[0]), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def insert_once(dsn: str, number: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, $1)", payload(number))
    finally:
        await connection.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that a test may kill."""
    try:
        with EmbeddedServer.start(tmp_path, say=lambda line: None, options=SMALL) as server:
            yield server
    finally:
        shutil.rmtree(cluster_folder(tmp_path), ignore_errors=True)
