"""HTTP clients that use little CPU, because they share the cores with what they measure."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from statistics import quantiles
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from tests.bench.processes import API_KEY

_COME_BACK = 503
_RETRY_AFTER_S = 0.2


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes


def request(address: str, path: str, body: bytes, **headers: str) -> bytes:
    """Return the bytes of a POST with API_KEY; an underscore in a header's name stands for a hyphen."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(address).netloc}", f"X-API-Key: {API_KEY}"]
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connected(address: str, count: int) -> AsyncIterator[list["HttpClient"]]:
    """Open a number of connections to a server; close them when the block ends."""
    host, _colon, port = urlsplit(address).netloc.partition(":")
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(HttpClient, host, int(port)))[1] for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


class HttpClient(asyncio.Protocol):
    """One connection, on which requests follow one another; answers have a Content-Length or are empty."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the same methods but is no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if blank and self._answer is not None and len(body) >= content_length(head):
            self._received = b""
            self._answer.set_result(Answer(int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server closed the connection"))

    async def send(self, sent: bytes, *statuses: int) -> Answer:
        """Send a request and return its answer; raise RuntimeError for any other status than those given."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(sent)
        answer = await self._answer
        if answer.status not in statuses:
            raise RuntimeError(f"answered {answer}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def content_length(head: bytes) -> int:
    """Return the length of the body from the head of a message; 0 when it names none."""
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)


class Sent(NamedTuple):
    """How long each request took, in seconds, and all together; how many answers said to come back later."""

    seconds: list[float]
    lasted_s: float
    refused: int = 0


async def repeat(
    clients: list[HttpClient], requests: Iterable[bytes], per_second: float = 0, status: int = 200
) -> Sent:
    """Send all requests, each connection one after another, at most at so many a second if given.

    A request that is answered with 503 is sent again, as a gateway does; its time includes both.
    """
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    refused = 0
    left = iter(enumerate(requests))
    began = loop.time()

    async def send_some(client: HttpClient) -> None:
        nonlocal refused
        for number, sent in left:
            if per_second:
                await asyncio.sleep(began + number / per_second - loop.time())
            started = loop.time()
            while (await client.send(sent, status, _COME_BACK)).status == _COME_BACK:
                refused += 1
                await asyncio.sleep(_RETRY_AFTER_S)
            seconds.append(loop.time() - started)

    await asyncio.gather(*map(send_some, clients))
    return Sent(seconds, loop.time() - began, refused)


def p99(seconds: list[float]) -> float:
    """Return the time that 99 of 100 keep to."""
    return quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]


def for_seconds(seconds: float, requests: Iterable[bytes]) -> Iterator[bytes]:
    """Yield requests repeatedly until a time has passed."""
    ends_at = time.monotonic() + seconds
    for sent in cycle(requests):
        if time.monotonic() > ends_at:
            return
        yield sent
