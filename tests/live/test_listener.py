"""The listener with a database that ends its connection, loses notifications, or crashes and restarts."""

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
from app.db.pool import Connection
from app.live import listener
from app.live.frames import Frame
from app.live.hub import Hub
from app.live.listener import Listener, read_frames
from app.live.protocol import CloseCode, Cursor
from app.live.queues.waiting import Queue
from app.live.retention import prune_feed
from app.metrics import Metrics
from tests.conftest import Database, wait_until
from tests.live.clients import Collector

SMALL = {"shared_buffers": "16MB", "max_connections": "20", "timescaledb.max_background_workers": "0"}


class Recorder(Queue[int]):
    """A subscriber that stores the frames it is offered and the codes with which it is closed."""

    def __init__(self, hub: Hub, metrics: Metrics) -> None:
        super().__init__(Collector(), hub.backlog, lambda end: self.closings.append(end.code), metrics)
        self.frames: list[Frame] = []
        self.closings: list[CloseCode] = []

    def __len__(self) -> int:
        return 0

    @property
    def seqs(self) -> list[int]:
        return [frame.cursor.seq for frame in self.frames]

    @property
    def values(self) -> list[float]:
        return [frame.readings[0].values["m"] for frame in self.frames]

    def offer(self, frame: Frame) -> None:
        self.frames.append(frame)

    def drop(self) -> None:
        raise AssertionError("nothing waits")

    def _take(self) -> list[bytes]:
        raise AssertionError("nothing waits")


class RunningListener:
    """A running listener with its hub, its metrics and a subscriber."""

    def __init__(self, dsn: str) -> None:
        self.metrics = Metrics()
        self.hub = Hub(self.metrics)
        self.listener = Listener(dsn, self.hub, self.metrics)
        self.recorder = Recorder(self.hub, self.metrics)
        self.hub.add(self.recorder)

    @property
    def reconnects(self) -> float:
        return self.metrics.registry.get_sample_value("tidegauge_listener_reconnects_total") or 0


@asynccontextmanager
async def running_listener(dsn: str) -> AsyncIterator[RunningListener]:
    running = RunningListener(dsn)
    task = asyncio.create_task(running.listener.run())
    try:
        await asyncio.wait_for(running.listener.started.wait(), 10)
        yield running
        assert not task.done(), "the listener must never end by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def payload(number: int) -> bytes:
    return msgspec.json.encode({"readings": [{"sensor": "s", "time": "2026-11-21T08:00:00Z", "values": {"m": number}}]})


async def insert(database: Database, *numbers: int) -> None:
    rows = [(payload(number),) for number in numbers]
    await database.pool.executemany("INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, $1)", rows)


async def terminate_listener(database: Database) -> None:
    ended = await database.pool.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'tidegauge listener'"
    )
    assert ended >= 1  # one that was ended before may not have left yet


async def test_listener_goes_on_unmoved_when_others_notify_what_they_like(database: Database) -> None:
    async with running_listener(database.dsn) as running, connected(database.reader_dsn) as reader:
        for forged in ("99999999999999999999", "-1", "0", "1e400", "'; DROP TABLE feed", "", "x" * 7_999, "\u20ac"):
            for channel in ("tidegauge", "tidegauge_work"):
                await reader.execute("SELECT pg_notify($1, $2)", channel, forged)
        await insert(database, 1)
        await wait_until(lambda: running.recorder.values == [1])
        assert (running.hub.head, running.reconnects, running.recorder.closings) == (1, 0, [])


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


class BusyRecorder(Recorder):
    """A subscriber that keeps the loop busy, as a thousand do together."""

    def flush(self) -> None:
        time.sleep(0.03)


async def test_listener_pauses_as_long_as_the_fan_out_took(database: Database) -> None:
    hub = Hub(Metrics())
    hub.add(BusyRecorder(hub, Metrics()))
    listener = Listener(database.dsn, hub, Metrics())
    started = time.monotonic()
    await listener._publish([Frame(Cursor("e", 1), "readings", payload(1))])
    assert hub.head == 1
    assert time.monotonic() - started >= 0.06


async def test_listener_starts_at_the_head_when_rows_are_there(database: Database) -> None:
    await insert(database, 1, 2, 3)
    async with running_listener(database.dsn) as running:
        assert running.hub.head == 3
        await insert(database, 4)
        await wait_until(lambda: running.recorder.values == [4])
    assert running.metrics.registry.get_sample_value("tidegauge_feed_seq") == 4


async def test_listener_reads_no_payload_while_nobody_follows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> list[Frame]:
        raise AssertionError("nobody follows the feed")

    async with running_listener(database.dsn) as running:
        with monkeypatch.context() as patched:
            patched.setattr(listener, "read_frames", refuse)
            running.hub.remove(running.recorder)
            await insert(database, *range(500))
            await wait_until(lambda: running.hub.head == 500)
        running.hub.add(running.recorder)
        await insert(database, 500)
        await wait_until(lambda: running.recorder.values == [500])
    assert running.metrics.registry.get_sample_value("tidegauge_feed_seq") == 501


async def test_client_that_comes_while_the_head_is_read_misses_nothing_after_it(database: Database) -> None:
    async with running_listener(database.dsn) as running:
        for number in range(200):
            running.hub.remove(running.recorder)
            await insert(database, number)
            running.hub.add(running.recorder)
            since = running.hub.head
            await insert(database, number)
            await wait_until(lambda: running.hub.head == 2 * number + 2)  # noqa: B023
            assert running.recorder.seqs == [*range(since + 1, running.hub.head + 1)]
            running.recorder.frames.clear()


async def test_listener_publishes_a_row_at_once_when_it_is_notified(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "POLL_S", 600)
    async with running_listener(database.dsn) as running:
        for number in range(5):
            await insert(database, number)
            await wait_until(lambda: len(running.recorder.values) > number)  # noqa: B023
        lag = running.metrics.registry.get_sample_value("tidegauge_feed_lag_seconds")
    assert lag is not None
    assert 0 < lag < 5


async def test_listener_misses_nothing_when_its_connection_is_ended(database: Database) -> None:
    async with running_listener(database.dsn) as running:
        for number in range(0, 40, 4):
            await terminate_listener(database)
            await insert(database, number, number + 1)
            await wait_until(lambda: running.reconnects > number / 4)  # noqa: B023
            await insert(database, number + 2, number + 3)
            await wait_until(lambda: len(running.recorder.values) == number + 4)  # noqa: B023
        assert running.recorder.values == list(range(40))
        assert running.recorder.seqs == sorted(set(running.recorder.seqs))
        assert running.recorder.closings == []


async def test_listener_continues_when_each_new_connection_is_ended_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (0.01,))
    async with running_listener(database.dsn) as running:
        for number in range(25):
            await insert(database, number)
            await terminate_listener(database)
            await wait_until(lambda: running.reconnects > number)  # noqa: B023
        await wait_until(lambda: len(running.recorder.values) == 25)
        assert running.recorder.values == list(range(25))


async def test_listener_polls_within_two_seconds_when_a_notification_is_lost(database: Database) -> None:
    async with running_listener(database.dsn) as running, database.pool.acquire() as connection:
        # Without the trigger the row causes no notification, and the test sets its number.
        await connection.execute("SET session_replication_role = replica")
        inserted = time.monotonic()
        await connection.execute(
            "INSERT INTO feed (seq, kind, n, payload) VALUES (nextval('feed_seq'), 'readings', 1, $1)", payload(1)
        )
        await wait_until(lambda: running.recorder.values == [1])
        assert time.monotonic() - inserted < 2
        await connection.execute("SET session_replication_role = origin")


async def test_listener_keeps_its_connection_when_a_backlog_takes_longer_than_a_heartbeat(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAGE_ROWS", 1)
    async with running_listener(database.dsn) as running:
        started = time.monotonic()
        await database.pool.execute(
            "INSERT INTO feed (kind, n, payload) SELECT 'readings', 1, $1 FROM generate_series(1, 500)", payload(1)
        )
        await wait_until(lambda: len(running.recorder.seqs) == 500)
        took_s = time.monotonic() - started
        # Then five times as many rows, with a heartbeat timeout that is shorter than all pages take together, but much
        # longer than one page takes.
        monkeypatch.setattr(listener, "TIMEOUT_S", 2.5 * took_s)
        await database.pool.execute(
            "INSERT INTO feed (kind, n, payload) SELECT 'readings', 1, $1 FROM generate_series(1, 2500)", payload(1)
        )
        await wait_until(lambda: len(running.recorder.seqs) == 3_000)
        assert running.reconnects == 0


async def test_listener_closes_clients_when_rows_were_pruned_while_it_was_disconnected(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (4.0,))
    async with running_listener(database.dsn) as running:
        await insert(database, 1)
        await wait_until(lambda: running.hub.head == 1)
        await terminate_listener(database)
        await insert(database, 2, 3)
        await prune_feed(database.pool, payload_bytes=1)
        await wait_until(lambda: running.reconnects == 1)
        assert running.recorder.closings == [CloseCode.SERVICE_RESTART]
        assert running.hub.head == 3


async def test_listener_pauses_between_attempts_when_the_feed_cannot_be_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_BACKOFF_S", (0.2,))
    async with running_listener(database.dsn) as running:
        await database.pool.execute("ALTER TABLE feed RENAME COLUMN payload TO hidden")
        started = time.monotonic()
        await insert_hidden(database, 1)
        await wait_until(lambda: running.reconnects >= 3)
        assert time.monotonic() - started > 0.3, "the listener must pause when the database refuses"
        await database.pool.execute("ALTER TABLE feed RENAME COLUMN hidden TO payload")
        await wait_until(lambda: running.recorder.values == [1])


async def insert_hidden(database: Database, number: int) -> None:
    await database.pool.execute("INSERT INTO feed (kind, n, hidden) VALUES ('readings', 1, $1)", payload(number))


async def test_listener_is_unhealthy_and_recovers_when_the_database_crashes_and_restarts(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(listener, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(listener, "POLL_S", 0.2)
    monkeypatch.setattr(listener, "_BACKOFF_S", (0.1,))
    await migrate(own_server.dsn)
    async with running_listener(own_server.dsn) as running:
        await insert_once(own_server.dsn, 1)
        await wait_until(lambda: running.recorder.values == [1])
        epoch = running.hub.epoch
        assert running.listener.is_healthy
        await asyncio.to_thread(crash, own_server)
        await wait_until(lambda: not running.listener.is_healthy)
        assert await asyncio.to_thread(own_server.restart_if_dead)
        await insert_once(own_server.dsn, 2)
        await wait_until(lambda: running.recorder.values == [1, 2])
        await wait_until(lambda: running.listener.is_healthy)  # from the end of the read that brought the row
        assert running.hub.epoch == epoch
        assert running.recorder.closings == []


def crash(server: EmbeddedServer) -> None:
    """Kill the postmaster, as the kernel does when memory runs out, and wait for its end."""
    pid_file = cluster_folder(server.data_dir) / "data" / "postmaster.pid"
    os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
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


async def test_page_of_the_feed_ends_with_the_row_that_reaches_its_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (300, 400, 300, 5_000, 1, 1):
        await database.pool.execute(
            "INSERT INTO feed (kind, n, payload) VALUES ('readings', 1, $1)", payload(1).ljust(size)
        )
    first: int = await database.pool.fetchval("SELECT min(seq) FROM feed")
    monkeypatch.setattr(listener, "PAGE_BYTES", 700)
    pages, cursor = [], Cursor("e", first - 1)
    while frames := await read_frames(database.pool, cursor, None):
        pages.append([frame.cursor.seq - first for frame in frames])
        cursor = frames[-1].cursor
    assert pages == [[0, 1], [2, 3], [4, 5]]


async def test_listener_reads_all_rows_when_each_fills_a_page(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAGE_BYTES", 1)
    monkeypatch.setattr(listener, "POLL_S", 60.0)
    async with running_listener(database.dsn) as running:
        await database.pool.execute(
            "INSERT INTO feed (kind, n, payload) SELECT 'readings', 1, $1 FROM generate_series(1, 20)", payload(1)
        )
        await wait_until(lambda: len(running.recorder.seqs) == 20)
