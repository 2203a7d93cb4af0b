"""Notifications a second that the broker delivers to a local receiver, compared with a bare client that posts them."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self, cast

import aiohttp
import msgspec
import uvloop

from app.broker.format import BrokerNotification, slack_message, telegram_message
from tests.bench.database import fresh_database
from tests.bench.processes import API_KEY, free_port, running, served, wait_for_port

CONNECTIONS = 16
NOTIFICATIONS = 6_000
WARM_UP = 500
#: A notification of usual size: the example of the replaced broker's documentation.
FIELDS: dict[str, Any] = {
    "title": "⚠️ CPU Alto no Servidor",
    "message": "O servidor prod-api-01 está com 85% de uso de CPU há mais de 10 minutos",
    "level": "WARNING",
    "source": "monitoring-system",
    "metadata": {
        "server": "prod-api-01",
        "cpu_usage": "85%",
        "memory_usage": "72%",
        "threshold": "80%",
        "duration": "10 minutes",
    },
}
Send = Callable[[], Awaitable[None]]
TOKEN = "1234567890:ABCdefGHIjklMNOpqrsTUVwxyZ"
CHAT_ID = -1001234567890


class Run(msgspec.Struct, frozen=True):
    """The measurements of one run."""

    name: str
    per_second: float
    median_ms: float
    p99_ms: float


async def main() -> None:
    """Measure Slack and Telegram, each with the bare client first, and print a table for each."""
    async with AsyncExitStack() as stack:
        port = free_port()
        stack.enter_context(running(receive, port))
        await wait_for_port(port)
        receiver = f"http://127.0.0.1:{port}"
        dsn = await stack.enter_async_context(fresh_database(os.environ.get("DATABASE_URL")))
        broker = await stack.enter_async_context(
            served(dsn, SLACK_WEBHOOK_PREFIX=f"{receiver}/", TELEGRAM_API_BASE=receiver)
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))
        )
        print(f"notification broker: {CONNECTIONS} connections, {NOTIFICATIONS:,} notifications to a local receiver")
        await _compare(session, "Slack", *_slack(receiver), broker)
        await _compare(session, "Telegram", *_telegram(receiver), broker)


def receive(port: int) -> None:
    """Serve until ended, answering every POST at once as Slack or Telegram does."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_ReceiverProtocol, "127.0.0.1", port)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def _compare(
    session: aiohttp.ClientSession, name: str, url: str, payload: bytes, channels: Any, broker: str
) -> None:
    bare = await _measure("bare client", [lambda: _post(session, url, payload)] * CONNECTIONS)
    body = msgspec.json.encode({**FIELDS, "channels": channels})
    clients = [await _Client.connect(broker, body) for _number in range(CONNECTIONS)]
    ours = await _measure("broker", [client.send for client in clients])
    for client in clients:
        client.close()
    print(f"  {name:12} {'per second':>10} {'median ms':>10} {'p99 ms':>8} {'ratio':>6}")
    for run in (bare, ours):
        ratio = run.per_second / bare.per_second
        print(f"  {run.name:12} {run.per_second:10,.0f} {run.median_ms:10.1f} {run.p99_ms:8.1f} {ratio:6.2f}")


async def _measure(name: str, senders: list[Send]) -> Run:
    await _repeat(senders, WARM_UP)
    started = time.perf_counter()
    seconds = await _repeat(senders, NOTIFICATIONS)
    per_second = NOTIFICATIONS / (time.perf_counter() - started)
    quantiles = statistics.quantiles(seconds, n=100)
    return Run(name, per_second, statistics.median(seconds) * 1e3, quantiles[98] * 1e3)


async def _repeat(senders: list[Send], times: int) -> list[float]:
    seconds: list[float] = []
    left = iter(range(times))

    async def repeat(send: Send) -> None:
        for _number in left:
            started = time.perf_counter()
            await send()
            seconds.append(time.perf_counter() - started)

    await asyncio.gather(*map(repeat, senders))
    return seconds


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        response.raise_for_status()
        await response.read()


class _Client:
    """A client on one connection that uses little CPU, because it shares the cores with what it measures."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._request = request

    @classmethod
    async def connect(cls, broker: str, body: bytes) -> Self:
        """Return a connected client that always sends the same notification."""
        host = broker.removeprefix("http://")
        head = (
            f"POST /api/v1/notifications/send HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {API_KEY}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        address, _colon, port = host.partition(":")
        return cls(*await asyncio.open_connection(address, int(port)), head.encode() + body)

    async def send(self) -> None:
        """Send the notification and read the answer; raise RuntimeError if it failed."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        answer = await self._reader.readexactly(_content_length(head))
        if not head.startswith(b"HTTP/1.1 201") or b'"success":false' in answer:
            raise RuntimeError(f"answered {head.decode()}{answer.decode()}")

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


def _slack(receiver: str) -> tuple[str, bytes, dict[str, Any]]:
    url = f"{receiver}/services/T123/B456/abc123"
    return url, msgspec.json.encode(slack_message(_notification()).body), {"slack": {"webhook_url": url}}


def _telegram(receiver: str) -> tuple[str, bytes, dict[str, Any]]:
    payload = msgspec.json.encode({**telegram_message(_notification()).body, "chat_id": CHAT_ID})
    return f"{receiver}/bot{TOKEN}/sendMessage", payload, {"telegram": {"bot_token": TOKEN, "chat_id": CHAT_ID}}


def _notification() -> BrokerNotification:
    fields = {**FIELDS, "level": FIELDS["level"].lower(), "at": "2024-06-11T14:30:00Z"}
    return msgspec.convert({"id": "123e4567-e89b-12d3-a456-426614174000", **fields}, BrokerNotification)


class _ReceiverProtocol(asyncio.Protocol):
    """A minimal HTTP server: requests one after another on a connection, each with a Content-Length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the same methods but is no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _blank, rest = self._buffer.partition(b"\r\n\r\n")
            length = _content_length(head)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._transport.write(_TELEGRAM_ANSWER if head.startswith(b"POST /bot") else _SLACK_ANSWER)


def _answer(media_type: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


_SLACK_ANSWER = _answer("text/html", b"ok")
_TELEGRAM_ANSWER = _answer(
    "application/json",
    msgspec.json.encode(
        {
            "ok": True,
            "result": {
                "message_id": 123,
                "from": {"id": 1234567890, "is_bot": True, "first_name": "bot", "username": "bot"},
                "chat": {"id": CHAT_ID, "title": "alerts", "type": "supergroup"},
                "date": 1718116200,
                "text": telegram_message(_notification()).body["text"],
            },
        }
    ),
)
