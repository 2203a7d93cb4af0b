"""Clients of a live feed that count what they get, all in one process of their own."""

import asyncio
import base64
import json
import os
import re
import resource
import time
from multiprocessing.connection import Connection
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import uvloop

from tests.bench.processes import API_KEY

#: Connections that are opened at a time; each loads a snapshot.
_OPENED_TOGETHER = 50
#: One client of this number reads the time at which each reading was sent; the others only count, to save CPU time.
_TIMED_EVERY = 20
_LATE_LIMIT_S = 10.0
_TOKEN = b'"sensor":'
_SENT = re.compile(rb'"sent":(\d+)')


class Followed(NamedTuple):
    """What all clients together got."""

    deliveries: int
    #: Measured by one client.
    fewest: int
    #: From sending to counting, of the timed clients.
    delays_s: list[float]
    #: CPU time of the clients' process since all of them follow.
    cpu_s: float
    #: After the last was sent, until all had come.
    late_s: float = 0.0


class Followers:
    """The clients, as seen from another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def begun(self) -> None:
        """Wait until all clients follow; raise EOFError when one could not."""
        await asyncio.to_thread(self._pipe.recv)

    async def got(self) -> Followed:
        """Ask what the clients got so far."""
        self._pipe.send(None)
        answer: Followed = await asyncio.to_thread(self._pipe.recv)
        return answer

    async def all_got(self, each: int) -> Followed:
        """Ask until every client has a number of readings, at most for _LATE_LIMIT_S; return their counts."""
        started = time.monotonic()
        while True:
            got = await self.got()
            late_s = time.monotonic() - started
            if got.fewest >= each or late_s > _LATE_LIMIT_S:
                return got._replace(late_s=late_s)
            await asyncio.sleep(0.1)


def follow(address: str, clients: int, pipe: Connection) -> None:
    """Connect so many clients; send None once all follow, then an answer to each message, what they got since then."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_follow(urlsplit(address).netloc, clients, pipe))


async def _follow(netloc: str, clients: int, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    host, _colon, port = netloc.partition(":")
    gate = asyncio.Semaphore(_OPENED_TOGETHER)

    async def connect(number: int) -> _Follower:
        async with gate:
            timed = number % _TIMED_EVERY == 0
            follower = (await loop.create_connection(lambda: _Follower(netloc, timed), host, int(port)))[1]
            await follower.following
            return follower

    followers = await asyncio.gather(*map(connect, range(clients)))
    began_s = _cpu_s()
    pipe.send(None)
    while True:
        await loop.run_in_executor(None, pipe.recv)
        counts = [follower.readings for follower in followers]
        delays_s = [delay for follower in followers for delay in follower.delays_s]
        pipe.send(Followed(sum(counts), min(counts), delays_s, _cpu_s() - began_s))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Follower(asyncio.Protocol):
    """Subscribes, then counts readings by the text before each, without looking at frames."""

    def __init__(self, netloc: str, timed: bool) -> None:
        self._netloc = netloc
        self._timed = timed
        self._before = b""
        self.following = asyncio.get_running_loop().create_future()
        self.readings = 0
        self.delays_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws/live HTTP/1.1\r\nHost: {self._netloc}\r\nX-API-Key: {API_KEY}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.following.done():
            self._count(data)
            return
        had_head = b"\r\n\r\n" in self._before
        self._before += data
        if not had_head and b"\r\n\r\n" in self._before:
            self._transport.write(_masked(json.dumps({"type": "subscribe"}).encode()))
        if b'"snapshot"' in self._before and self._before.endswith(b"}"):
            self._before = b""
            self.following.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.following.done():
            self.following.set_exception(error or ConnectionResetError("the server closed the connection"))

    def _count(self, data: bytes) -> None:
        end = (data := self._before + data).rfind(b"}") + 1
        complete, self._before = data[:end], data[end:]
        self.readings += complete.count(_TOKEN)
        if self._timed:
            now_us = time.monotonic_ns() // 1_000
            self.delays_s += [(now_us - int(sent)) / 1e6 for sent in _SENT.findall(complete)]


def _masked(payload: bytes) -> bytes:
    """Return the frame of a short text, with a mask of zeros."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
