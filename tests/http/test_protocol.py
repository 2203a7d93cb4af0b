"""Answers as a client receives them through the joining protocol, and their times."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any

import pytest
import uvicorn
import websockets
from litestar.enums import ScopeType
from litestar.types import Receive, Scope

from app.http import protocol as http_protocol
from app.http.connections import OpenConnections
from app.http.protocol import HEAD_LIMIT, HEADERS_LIMIT, JoiningHttpProtocol
from tests.conftest import wait_until

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
LONG = b"x" * 3_000_000


class Application:
    """Answers /small at once, /slow in two parts, the second when it is told to, and /long with many megabytes."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Any) -> None:
        """Answer a request, or send one text through a WebSocket."""
        if scope["type"] != ScopeType.HTTP:
            await self._talk(receive, send)
            return
        if scope["path"] == "/long":
            await send({**HEAD, "headers": [(b"content-length", b"3000000")]})
            await send({"type": "http.response.body", "body": LONG})
            return
        await send(HEAD)
        if scope["path"] == "/slow":
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await self.go_on.wait()
            await send({"type": "http.response.body", "body": b"b"})
        else:
            await send({"type": "http.response.body", "body": b"ok"})

    async def _talk(self, receive: Receive, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close", "code": 1000})


@pytest.fixture
async def port(application: Application) -> AsyncIterator[int]:
    """Serve the application and yield its port."""
    async with _serving(application) as port:
        yield port


@pytest.fixture
def application() -> Application:
    """Return the application."""
    return Application()


async def test_head_and_body_arrive_together_when_an_answer_is_short(port: int) -> None:
    reader, writer = await _ask(port, "/small")
    first = await reader.read(1_000)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\nok")
    writer.close()


async def test_part_of_an_answer_arrives_when_the_rest_takes_longer(port: int, application: Application) -> None:
    reader, writer = await _ask(port, "/slow")
    assert (await reader.read(1_000)).endswith(b"\r\n\r\na")
    application.go_on.set()
    assert await reader.read(1_000) == b"b"
    writer.close()


@pytest.mark.parametrize(("path", "body"), [("/small", b"ok"), ("/long", LONG)])
async def test_answer_is_complete_when_the_connection_is_closed_after_it(port: int, path: str, body: bytes) -> None:
    reader, writer = await _ask(port, path, "Connection: close\r\n")
    answer = await reader.read()
    assert answer.partition(b"\r\n\r\n")[2] == body
    writer.close()


async def test_websocket_works_when_a_connection_is_upgraded(port: int) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{port}/") as socket:
        assert await socket.recv() == "hello"


# Heads of requests


async def test_connection_is_closed_when_the_head_of_its_first_request_dribbles(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN_S", 0.3)
    started = monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.readuntil(b"}"))
    await _dribble(writer, b"GET /small HTTP/1.1\r\n" + b"X-A: 1\r\n" * 1_000, answer)
    assert (await answer).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert 0.3 <= monotonic() - started < 5


async def test_connection_is_closed_when_the_head_of_a_later_request_dribbles(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await _ask(port, "/small")
    await reader.readuntil(b"ok")
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN_S", 0.3)
    answer = asyncio.create_task(reader.readuntil(b"}"))
    await _dribble(writer, b"GET /small HTTP/1.1\r\n" + b"X-A: 1\r\n" * 1_000, answer)
    assert (await answer).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("sends", [b"", b"\r\n" * 10_000], ids=["nothing", "empty lines"])
async def test_connection_is_closed_without_an_answer_when_no_request_begins(
    application: Application, monkeypatch: pytest.MonkeyPatch, sends: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN_S", 0.3)
    async with _serving(application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.create_task(_read_to_end(reader))
        await _dribble(writer, sends, answer)
        assert await answer == b""


async def test_connection_is_closed_when_only_empty_lines_follow_a_request(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await _ask(port, "/small")
    await reader.readuntil(b"ok")
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN_S", 0.3)
    answer = asyncio.create_task(_read_to_end(reader))
    await _dribble(writer, b"\r\n" * 10_000, answer)
    assert await answer == b""


async def test_request_is_answered_when_its_answer_takes_longer_than_a_head_may(
    port: int, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN_S", 0.1)
    reader, writer = await _ask(port, "/slow")
    assert (await reader.read(1_000)).endswith(b"\r\n\r\na")
    await asyncio.sleep(0.3)
    application.go_on.set()
    assert await reader.read(1_000) == b"b"
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"X-Large: " + b"x" * HEAD_LIMIT + b"\r\n\r\n",
        b"X-Endless: " + b"x" * 2_000_000,
        b"".join(b"X-%d: 1\r\n" % number for number in range(HEADERS_LIMIT + 1)) + b"\r\n",
        b"x" * 2_000_000,
    ],
    ids=["large", "endless value", "many", "endless name"],
)
async def test_request_is_refused_with_431_when_its_headers_exceed_a_limit(port: int, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /small HTTP/1.1\r\n" + head)
    answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"may have 32 KiB together, and there may be 100 headers." in answer
    writer.close()


async def test_request_is_refused_with_431_when_its_address_is_too_long(port: int) -> None:
    reader, writer = await _ask(port, "/" + "x" * HEAD_LIMIT)
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_refusal_has_no_body_when_the_request_is_head(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HEAD /" + b"x" * HEAD_LIMIT + b" HTTP/1.1\r\nHost: test\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.endswith(b"\r\nconnection: close\r\n\r\n")
    writer.close()


async def test_refusal_has_a_body_when_only_the_request_before_was_head(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HEAD /small HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"\0\r\n\r\n")
    assert (await reader.read()).endswith(b'"detail":"This is not a request of HTTP/1.1."}')
    writer.close()


async def test_request_is_answered_when_its_headers_are_at_the_limits(port: int) -> None:
    few = "".join(f"X-{number}: 1\r\n" for number in range(HEADERS_LIMIT - 1))
    large = "X-L: " + "x" * (HEAD_LIMIT - len("/small" + "Host" + "test" + "X-L")) + "\r\n"
    for headers in (few, large):
        reader, writer = await _ask(port, "/small", headers)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
        writer.close()


@pytest.mark.parametrize("sends", [b"hello\r\n\r\n", b"\x16\x03\x01\x02", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_request_is_refused_with_400_when_it_is_not_http(port: int, sends: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sends)
    answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"detail":"This is not a request of HTTP/1.1."' in answer
    writer.close()


async def test_answer_is_complete_when_something_that_is_no_request_follows(
    port: int, application: Application
) -> None:
    reader, writer = await _ask(port, "/slow")
    assert (await reader.read(1_000)).endswith(b"\r\n\r\na")
    writer.write(b"hello\r\n\r\n")
    await asyncio.sleep(0.05)
    application.go_on.set()
    assert await reader.read() == b"b"
    writer.close()


async def test_oldest_connection_is_closed_when_there_are_as_many_as_may_be(application: Application) -> None:
    async with _serving(application, most=3) as port:
        kept, keeper = await _ask(port, "/slow")
        assert (await kept.read(1_000)).endswith(b"\r\n\r\na")
        strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await strangers[0][0].read() == b""
        reader, writer = await _ask(port, "/small")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
        assert await strangers[1][0].read() == b""
        application.go_on.set()
        assert await kept.read(1_000) == b"b"
        for each in (keeper, writer, *(writer for _, writer in strangers)):
            each.close()


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes, nothing of a connection that was reset: the server closed it while the client wrote."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def _dribble(writer: asyncio.StreamWriter, sent: bytes, answer: asyncio.Task[bytes]) -> None:
    """Send bytes one by one until there is an answer or the connection ends."""
    with suppress(ConnectionError):
        for number in range(len(sent)):
            writer.write(sent[number : number + 1])
            await writer.drain()
            if (await asyncio.wait([answer], timeout=0.01))[0]:
                break
        await answer
    writer.close()


@asynccontextmanager
async def _serving(application: Application, most: int = 1_000) -> AsyncIterator[int]:
    config = uvicorn.Config(
        application,
        http=partial(JoiningHttpProtocol, open_connections=OpenConnections(most)),  # type: ignore[arg-type]
        log_config=None,
        lifespan="off",
        port=0,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    try:
        await wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def _ask(port: int, path: str, headers: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())
    return reader, writer
