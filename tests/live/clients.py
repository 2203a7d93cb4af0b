"""Clients of the two feeds, as strict as a sceptic: they check the order and the shape of what they get."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import API_KEY_WS, Server

PATIENCE_S = 15.0
Message = dict[str, Any]


class FeedClient:
    """A connection to /ws/live or /ws/sensor_updates."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        #: The newest cursor that came.
        self.cursor = ""

    async def send(self, **message: object) -> None:
        """Send one message."""
        await self.connection.send(json.dumps(message))

    async def subscribe(self, **wishes: object) -> None:
        """Send a subscribe message."""
        self.cursor = str(wishes.get("resume") or "")
        await self.send(type="subscribe", **wishes)

    async def receive(self) -> Message:
        """Wait for the next message; cursors must never go back."""
        async with asyncio.timeout(PATIENCE_S):
            message: Message = json.loads(await self.connection.recv())
        if message["type"] == "resync":
            self.cursor = ""
        elif "cursor" in message:
            assert not self.cursor or seq_of(message["cursor"]) >= seq_of(self.cursor)
            self.cursor = message["cursor"]
        return message

    async def snapshot(self, **wishes: object) -> Message:
        """Subscribe and take the snapshot."""
        await self.subscribe(**wishes)
        message = await self.receive()
        assert message["type"] == "snapshot"
        return message

    async def values(self, count: int) -> list[tuple[str, str, str, float]]:
        """Collect (sensor, time, metric, value) from frames, in order, until there are so many."""
        collected: list[tuple[str, str, str, float]] = []
        while len(collected) < count:
            collected += flatten(await self.receive())
        return collected

    async def closed(self) -> tuple[int | None, str | None]:
        """Read to the end, and give the close code and its reason; 1006 when the connection just broke."""
        with suppress(ConnectionClosed):
            async with asyncio.timeout(PATIENCE_S):
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
async def sensor_updates(server: Server, key: str = API_KEY_WS) -> AsyncIterator[FeedClient]:
    """Connect to /ws/sensor_updates as a client of the replaced server does."""
    async with connect(f"{_address(server)}/ws/sensor_updates?api-key={quote(key)}") as connection:
        yield FeedClient(connection)


@asynccontextmanager
async def paused(server: Server, **wishes: object) -> AsyncIterator[FeedClient]:
    """Subscribe, and then read nothing beyond the snapshot until asked: one message is taken in at a time."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    narrow.setblocking(False)
    address = urlsplit(server.address)
    await asyncio.get_running_loop().sock_connect(narrow, (address.hostname, address.port))
    # No pings of its own: they would wait for an answer behind all that it does not read.
    async with live(server, sock=narrow, max_queue=1, ping_interval=None, max_size=None) as client:
        await client.snapshot(**wishes)
        yield client


def flatten(message: Message) -> list[tuple[str, str, str, float]]:
    """Take a frame apart into (sensor, time, metric, value)."""
    assert message["type"] == "readings", message
    return [
        (reading["sensor"], reading["time"], metric, value)
        for reading in message["readings"]
        for metric, value in reading["values"].items()
    ]


def seq_of(cursor: str) -> int:
    """Look into a cursor, which only a test may do."""
    return int(cursor.rpartition(".")[2])


def batch(sensor: str, values: Sequence[float], first_ms: int, metric: str = "level") -> list[dict[str, object]]:
    """Write readings of one sensor, a millisecond apart."""
    return [
        {"sensor": sensor, "time": first_ms + number, "values": {metric: value}} for number, value in enumerate(values)
    ]


def _address(server: Server) -> str:
    return server.address.replace("http://", "ws://")
