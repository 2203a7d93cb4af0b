"""A failover: the primary is killed under load, its synchronous standby is promoted, and all work continues.

Two servers of the embedded kind, an API and two workers as processes, gateways that send without a pause, and a
follower of the live feed. It takes half a minute because it starts two servers and three processes, and because it
watches that there is one leader afterwards.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import WebSocketException

from app.db.migrations import migrate
from app.db.pool import connect
from tests.conftest import API_KEY_WS
from tests.faults.pair import Pair, pair
from tests.ports import free_port
from tests.processes import ServerProcess, started
from tests.wire import Wire

#: A failover may take this long from the promotion on until an upload is acknowledged again.
BACK_WITHIN_S = 10.0
#: Time from the promotion until one worker holds the lease again.
LEADER_WITHIN_S = 15.0
WAIT_S = 30.0
STORED = """
SELECT sensor.name, value FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE time > '-infinity' AND metric = 'count'
"""


class MovingAddress(Wire):
    """An address that leads to one server at a time, like that of Patroni's proxy, or one that a service moves."""

    def lead_to(self, dsn: str) -> None:
        """Lead new connections to another server, and end those to the one before."""
        self._target = urlsplit(dsn)
        for task in self._tasks:
            task.cancel()


class Load:
    """Gateways that send one reading after another, each until it is acknowledged."""

    def __init__(self, server: ServerProcess) -> None:
        self.acknowledged: set[tuple[str, float]] = set()
        self.last_at = monotonic()
        self._server = server

    async def send(self, sensor: str) -> None:
        """Send for ever."""
        number = 0
        while True:
            number += 1
            reading = {"sensor": sensor, "time": _now_ms(), "values": {"count": number}}
            while await self._server.post([reading]) != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            self.acknowledged.add((sensor, float(number)))
            self.last_at = monotonic()
            await asyncio.sleep(0.005)

    async def until_more(self, count: int) -> None:
        """Wait until a number of further readings are acknowledged."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(WAIT_S):
            while len(self.acknowledged) < goal:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


class Follower:
    """A client of the live feed that connects again with its cursor whenever it is cut off."""

    def __init__(self, port: int) -> None:
        self.seen: set[tuple[str, float]] = set()
        self.resyncs = 0
        self.started = asyncio.Event()
        self.resynced = asyncio.Event()
        self._port = port
        self._cursor: str | None = None

    async def follow(self) -> None:
        """Follow for ever."""
        while True:
            with suppress(OSError, WebSocketException):
                await self._follow_once()
            await asyncio.sleep(0.1)

    async def _follow_once(self) -> None:
        headers = {"X-API-Key": API_KEY_WS}
        async with connect_websocket(f"ws://127.0.0.1:{self._port}/ws/live", additional_headers=headers) as connection:
            resume = {} if self._cursor is None else {"resume": self._cursor}
            await connection.send(json.dumps({"type": "subscribe", "sensors": ["*"], "mode": "all", **resume}))
            async for text in connection:
                self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        self._cursor = message.get("cursor", self._cursor)
        self.started.set()
        if message["type"] == "resync":
            self.resyncs += 1
            self.resynced.set()
        if message["type"] == "readings":
            self.seen |= {
                (reading["sensor"], value)
                for reading in message["readings"]
                for metric, value in reading["values"].items()
                if metric == "count"
            }


class Installation:
    """An API, two workers, gateways and a follower."""

    def __init__(self, api: ServerProcess, workers: list[ServerProcess]) -> None:
        self.api = api
        self.workers = workers
        self.load = Load(api)
        self.follower = Follower(api.port)

    async def count_leaders(self) -> int:
        """Return how many workers say that they hold the lease."""
        return sum([await _is_leader(worker) for worker in self.workers])


async def _is_leader(worker: ServerProcess) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with worker.http.get("/health/ready", timeout=aiohttp.ClientTimeout(5)) as response:
            answer = await response.json()
            return bool(answer["leader"])
    return False


@asynccontextmanager
async def installed(folder: Path, dsn: str) -> AsyncIterator[Installation]:
    """Run an installation under load until the block ends."""
    async with AsyncExitStack() as stack:
        processes = []
        for name in ("api", "first-worker", "second-worker"):
            port = free_port()
            command = ("serve",) if name == "api" else ("work", f"--port={port}")
            starting = started(folder / name, *command, port=port, DATABASE_URL=dsn, LOG_FORMAT="json")
            processes.append(await stack.enter_async_context(starting))
        for process in processes:
            await process.until_ready()
        installation = Installation(processes[0], processes[1:])
        tasks = [asyncio.create_task(installation.follower.follow())]
        try:
            async with asyncio.timeout(WAIT_S):
                await installation.follower.started.wait()
            tasks += [asyncio.create_task(installation.load.send(f"sensor-{number}")) for number in range(3)]
            yield installation
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "is_moved",
    [pytest.param(True, id="address that moves", marks=pytest.mark.slow), pytest.param(False, id="addresses of both")],
)
async def test_nothing_acknowledged_is_lost_and_all_goes_on_when_the_standby_is_promoted(
    tmp_path: Path, is_moved: bool
) -> None:
    with pair(tmp_path) as servers:
        await servers.create()
        await migrate(servers.primary.dsn)
        await servers.follow()
        if not is_moved:
            await _fail_over(tmp_path, servers, servers.dsn, lambda: None)
            return
        address = MovingAddress(servers.primary.dsn)
        await address.mend()
        try:
            await _fail_over(tmp_path, servers, address.url, lambda: address.lead_to(servers.standby.dsn))
        finally:
            await address.cut()


async def _fail_over(folder: Path, servers: Pair, dsn: str, move: Callable[[], None]) -> None:
    async with installed(folder, dsn) as installation:
        load = installation.load
        await load.until_more(100)
        servers.primary.kill()
        await servers.promote()
        promoted_at = monotonic()
        move()
        await load.until_more(1)
        assert load.last_at - promoted_at < BACK_WITHIN_S
        await _wait_for_one_leader(installation, promoted_at)
        assert await installation.api.post(_oven()) == 200
        await load.until_more(100)
        await _wait_for_alert(installation.api)
        # Nothing acknowledged is lost, and nothing is stored twice.
        acknowledged = set(load.acknowledged)
        stored = await _read_stored(servers.standby.dsn)
        assert acknowledged <= set(stored)
        assert len(stored) == len(set(stored))
        await _check_follows(installation)
        assert await installation.count_leaders() == 1


async def _check_follows(installation: Installation) -> None:
    """Check that the follower was told once to read again, and has seen everything since.

    A promoted server is another history of the feed, so cursors of the one before are not valid any more.
    """
    load, follower = installation.load, installation.follower
    async with asyncio.timeout(WAIT_S):
        await follower.resynced.wait()
        earlier = set(load.acknowledged)
        await load.until_more(50)
        later = load.acknowledged - earlier
        while not later <= follower.seen:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert follower.resyncs == 1


async def _wait_for_one_leader(installation: Installation, promoted_at: float) -> None:
    while await installation.count_leaders() != 1:
        assert monotonic() - promoted_at < LEADER_WITHIN_S
        await asyncio.sleep(0.1)


async def _wait_for_alert(api: ServerProcess) -> None:
    """Wait until the alert of the oven is listed, once."""
    async with asyncio.timeout(WAIT_S):
        while True:
            async with api.http.get("/api/v1/alerts", params={"rule": "temperature-high"}) as response:
                answer = await response.json()
            if answer.get("items"):
                break
            await asyncio.sleep(0.05)
    assert [item["sensor"] for item in answer["items"]] == ["oven"]


async def _read_stored(dsn: str) -> list[tuple[str, float]]:
    connection = await connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(STORED)]
    finally:
        await connection.close()


def _oven() -> list[dict[str, Any]]:
    """Make readings that are too warm for the example rules."""
    return [
        {"sensor": "oven", "time": _now_ms() - ago_ms, "values": {"temperature": 45}} for ago_ms in (90_000, 10_000)
    ]


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000)
