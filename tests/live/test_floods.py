"""Clients of the live feed that send too much, before they have signed in and after."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from app.live import session
from app.live.wire import FRAMES_LIMIT, STRANGER_FRAMES, STRANGER_MESSAGE_BYTES
from tests.conftest import Server
from tests.live.clients import FeedClient, live

Flood = Callable[[FeedClient], Awaitable[None]]


async def _ping(client: FeedClient) -> None:
    for _ in range(FRAMES_LIMIT + 1):
        await client.connection.ping()


async def _pong(client: FeedClient) -> None:
    for _ in range(FRAMES_LIMIT + 1):
        await client.connection.pong()


async def _send_empty_fragments(client: FeedClient) -> None:
    await client.connection.send(b"" for _ in range(FRAMES_LIMIT + 1))


@pytest.mark.parametrize("flood", [_ping, _pong, _send_empty_fragments], ids=["pings", "pongs", "fragments"])
@pytest.mark.parametrize("key", [None, "test-ws-key"], ids=["before sign-in", "signed in"])
async def test_live_closes_with_1008_when_a_client_sends_too_many_frames(
    server: Server, flood: Flood, key: str | None
) -> None:
    async with live(server, key=key, ping_interval=None) as client, live(server) as other:
        await other.snapshot()
        if key is not None:
            await client.snapshot()
        with suppress(ConnectionClosed):
            await flood(client)
        assert await client.closed() == (1008, "too many frames")
        assert (await server.post_readings([{"sensor": "s", "values": {"m": 1}}])).status == 200
        assert [value[3] for value in await other.values(1)] == [1]


async def test_live_takes_as_many_frames_as_a_client_may_send(server: Server) -> None:
    async with live(server, key=None, ping_interval=None) as client:
        for _ in range(STRANGER_FRAMES - 3):
            await client.connection.ping()
        await client.send(type="auth", key="test-ws-key")
        await client.snapshot()
        for _ in range(FRAMES_LIMIT - 10):
            await client.connection.ping()
        await client.snapshot()


async def test_live_closes_with_1009_when_a_message_before_sign_in_is_large(server: Server) -> None:
    async with live(server, key=None) as client:
        with suppress(ConnectionClosed):
            await client.connection.send("x" * (STRANGER_MESSAGE_BYTES + 1))
        assert (await client.closed())[0] == 1009


async def test_live_takes_a_large_message_when_the_client_has_signed_in(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot(sensors=["x" * 100 for _ in range(100)])


async def test_live_closes_with_4401_when_only_pings_come_within_the_time_to_sign_in(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "AUTH_TIMEOUT_S", 0.3)
    async with live(server, key=None, ping_interval=0.05) as client:
        assert (await client.closed())[0] == 4401


async def test_handshake_is_refused_with_431_when_a_header_is_longer_than_it_may_be(server: Server) -> None:
    key = base64.b64encode(b"0123456789abcdef").decode()
    address = urlsplit(server.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        b"GET /ws/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        + f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nX-Long: {'x' * 9_000}\r\n\r\n".encode()
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    writer.close()
