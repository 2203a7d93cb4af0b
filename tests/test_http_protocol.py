"""What a client receives of an answer, and when, through the joining protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
import websockets
from litestar.enums import ScopeType
from litestar.types import Receive, Scope

from app.http_protocol import JoiningHttpProtocol
from app.open_connections import OpenConnections
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
