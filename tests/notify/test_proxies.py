"""HTTPS_PROXY, HTTP_PROXY and NO_PROXY, with a local proxy and local servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from app.notify.transport import Post, TransientError, open_session, send_post
from tests.notify.unreachable_servers import closed_port_url
from tests.receivers import WebhookReceiver


class Proxy:
    """A proxy on 127.0.0.1: it opens tunnels for CONNECT, wherever to, to one port; `refuse_with` answers instead."""

    def __init__(self, target_port: int = 0, refuse_with: bytes | None = None) -> None:
        #: The first line of each request.
        self.asked: list[str] = []
        #: What clients sent through tunnels.
        self.sent = b""
        self._target_port = target_port
        self._refuse_with = refuse_with

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.decode().splitlines()[0])
            if self._refuse_with is not None:
                writer.write(self._refuse_with)
                await writer.drain()
            elif self.asked[-1].startswith("CONNECT "):
                await self._tunnel(reader, writer)
            else:
                body = await reader.readexactly(2)
                self.sent += body
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, target = await asyncio.open_connection("127.0.0.1", self._target_port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        data = await reader.read(16_384)
        self.sent += data
        target.write(data)
        await target.drain()
        target.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def post(url: str) -> int:
    async with open_session() as session:
        return (await send_post(session, Post(url, b"{}"))).status


async def test_https_goes_through_a_tunnel_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with WebhookReceiver() as receiver:
        proxy = Proxy(int(receiver.url.rpartition(":")[2]))
        async with proxy.running() as address:
            monkeypatch.setenv("HTTPS_PROXY", address)
            with pytest.raises(TransientError, match=r"connection (came about|broke)"):
                await post("https://hooks.slack.example/services/x")
    assert proxy.asked == ["CONNECT hooks.slack.example:443 HTTP/1.1"]
    # The first bytes of TLS, with the name of the server, and nothing of the request in the clear.
    assert proxy.sent.startswith(b"\x16\x03")
    assert b"hooks.slack.example" in proxy.sent
    assert b"/services/x" not in proxy.sent
    assert receiver.accepted == []


async def test_http_is_asked_of_the_proxy_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with proxy.running() as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        assert await post("http://alerts.example/hook") == 200
    assert proxy.asked == ["POST http://alerts.example/hook HTTP/1.1"]
    assert proxy.sent == b"{}"


async def test_hosts_of_no_proxy_are_reached_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with WebhookReceiver() as receiver, proxy.running() as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("NO_PROXY", "other.example,127.0.0.1")
        assert await post(f"{receiver.url}/ops") == 204
    assert [message.path for message in receiver.accepted] == ["/ops"]
    assert proxy.asked == []


async def test_message_waits_when_the_proxy_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(refuse_with=b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    async with proxy.running() as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(TransientError, match="the proxy answered 407 instead of connecting"):
            await post("https://hooks.slack.example/services/x")


async def test_message_waits_when_the_proxy_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", closed_port_url())
    with pytest.raises(TransientError, match=r"^proxy: "):
        await post("https://hooks.slack.example/services/x")


async def test_session_of_a_proxy_shows_nothing_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", closed_port_url())
    with pytest.raises(TransientError) as raised:
        await post("https://hooks.slack.example/services/s3cret")
    assert "s3cret" not in repr(raised.value)
