"""Clients of the two feeds, which check the order of cursors and the form of messages."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.live.wire import ClientWire
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Server, running_server

TIMEOUT_S = 15.0
Message = dict[str, Any]


class Collector(ClientWire):
    """Takes frames in place of a connection; while `open` is cleared, it takes none."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        #: How many messages came in each write.
        self.writes: list[int] = []
        self.open = asyncio.Event()
        self.open.set()

    @property
    def is_writable(self) -> bool:
        return self.open.is_set()

    def write(self, frames: Sequence[bytes]) -> None:
        self.messages += [json.loads(frame[frame.index(b'{"') :]) for frame in frames]
        self.writes.append(len(frames))

    async def drained(self) -> None:
        await self.open.wait()


class FeedClient:
    """A connection to /ws/live or /ws/sensor_updates."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        #: The newest cursor received.
        self.cursor = ""

    async def send(self, **message: object) -> None:
        """Send one message."""
        await self.connection.send(json.dumps(message))

    async def subscribe(self, **options: object) -> None:
        """Send a subscribe message."""
        self.cursor = str(options.get("resume") or "")
        await self.send(type="subscribe", **options)

    async def receive(self) -> Message:
        """Wait for the next message; fail when its cursor is before the last one."""
        async with asyncio.timeout(TIMEOUT_S):
            message: Message = json.loads(await self.connection.recv())
        if message["type"] == "resync":
            self.cursor = ""
        elif "cursor" in message:
            assert not self.cursor or seq_of(message["cursor"]) >= seq_of(self.cursor)
            self.cursor = message["cursor"]
        return message

    async def snapshot(self, **options: object) -> Message:
        """Subscribe and return the snapshot."""
        await self.subscribe(**options)
        message = await self.receive()
        assert message["type"] == "snapshot"
        return message

    async def values(self, count: int) -> list[tuple[str, str, str, float]]:
        """Collect (sensor, time, metric, value) from frames, in order, until there are at least `count`."""
        collected: list[tuple[str, str, str, float]] = []
        while len(collected) < count:
            collected += flatten(await self.receive())
        return collected

    async def closed(self) -> tuple[int | None, str | None]:
        """Read to the end; return the close code and its reason, 1006 for a connection that broke."""
        with suppress(ConnectionClosed):
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    await self.connection.recv()
        return self.connection.close_code, self.connection.close_reason


@asynccontextmanager
async def live(server: Server, key: str | None = API_KEY_WS, **options: Any) -> AsyncIterator[FeedClient]:
    """Connect to /ws/live, with a key in the headers unless it is None."""
    if key is not None:
        options["additional_headers"] = {"X-API-Key": key}
    async with connect(f"{_address(server)}/ws/live", **options) as connection:
        yield FeedClient(connection)


@asynccontextmanager
async def sensor_updates(server: Server, key: str = API_KEY_WS, **options: Any) -> AsyncIterator[FeedClient]:
    """Connect to /ws/sensor_updates like a client of the replaced server."""
    async with connect(f"{_address(server)}/ws/sensor_updates?api-key={quote(key)}", **options) as connection:
        yield FeedClient(connection)


@asynccontextmanager
async def paused(server: Server, **options: object) -> AsyncIterator[FeedClient]:
    """Subscribe and read the snapshot; later messages are read one by one when the test asks for them."""
    async with live(server, **await reading_slowly(server)) as client:
        await client.snapshot(**options)
        yield client


async def reading_slowly(server: Server) -> dict[str, Any]:
    """Return the options of a connection that takes little ahead of what its test reads."""
    small_socket = socket.socket()
    small_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    small_socket.setblocking(False)
    address = urlsplit(server.address)
    await asyncio.get_running_loop().sock_connect(small_socket, (address.hostname, address.port))
    # Without pings, because their answers would arrive after all unread messages.
    return {"sock": small_socket, "max_queue": 1, "ping_interval": None, "max_size": None}


def flatten(message: Message) -> list[tuple[str, str, str, float]]:
    """Return the values of a frame as (sensor, time, metric, value); a heartbeat has none."""
    if message["type"] == "heartbeat":
        return []
    assert message["type"] == "readings", message
    return [
        (reading["sensor"], reading["time"], metric, value)
        for reading in message["readings"]
        for metric, value in reading["values"].items()
    ]


def seq_of(cursor: str) -> int:
    """Return the seq of a cursor; to other clients cursors are opaque."""
    return int(cursor.rpartition(".")[2])


def batch(sensor: str, values: Sequence[float], first_ms: int, metric: str = "level") -> list[dict[str, object]]:
    """Return readings of one sensor, a millisecond apart."""
    return [
        {"sensor": sensor, "time": first_ms + number, "values": {metric: value}} for number, value in enumerate(values)
    ]


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def serving(dsn: str, **settings: Any) -> AbstractAsyncContextManager[Server]:
    """Run a server on a database until the block ends."""
    return running_server(Settings(database_url=dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, **settings))


async def post(server: Server, sensor: str, *values: float, first_ms: int | None = None, metric: str = "level") -> None:
    """Upload values of a sensor, one a millisecond from `first_ms` or now on."""
    response = await server.post_readings(batch(sensor, values, first_ms or now_ms(), metric))
    assert response.status == 200


def metric(server: Server, name: str, **labels: str) -> float:
    """Return the value of a metric of the server."""
    value = server.services.metrics.registry.get_sample_value(name, labels)
    assert value is not None
    return value


async def expect_resync(server: Server, cursor: str) -> None:
    async with live(server) as client:
        await client.subscribe(resume=cursor)
        assert await client.receive() == {"type": "resync"}
        assert (await client.receive())["type"] == "snapshot"
        await post(server, "s", 7)
        assert [value[3] for value in await client.values(1)] == [7]


def _address(server: Server) -> str:
    return server.address.replace("http://", "ws://")
