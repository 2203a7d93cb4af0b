"""Notifications a second that the broker delivers to a local receiver, beside a bare client that posts them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, cast

import aiohttp
import msgspec
import uvloop

from app.broker.format import BrokerNotification, slack_message, telegram_message
from tests.bench.connections import HttpClient, connected, content_length, p99, request
from tests.bench.processes import Served, running, served, wait_for_port
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run
from tests.ports import free_port

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


class Measured(NamedTuple):
    """The measurements of one way of sending."""

    per_second: float
    p99_ms: float


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield rows for Slack and Telegram, each beside the bare client."""
    async with AsyncExitStack() as stack:
        port = free_port()
        stack.enter_context(running(receive, port))
        await wait_for_port(port)
        receiver = f"http://127.0.0.1:{port}"
        dsn = await stack.enter_async_context(run.database())
        broker = await stack.enter_async_context(
            served(dsn, SLACK_WEBHOOK_PREFIX=f"{receiver}/", TELEGRAM_API_BASE=receiver)
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))
        )
        for name, target in (("Slack", _slack(receiver)), ("Telegram", _telegram(receiver))):
            for row in await _compare(run, session, name, target, broker):
                yield row


def receive(port: int) -> None:
    """Serve until ended, answering every POST at once as Slack or Telegram does."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_ReceiverProtocol, "127.0.0.1", port)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def _compare(
    run: Run, session: aiohttp.ClientSession, name: str, target: tuple[str, bytes, dict[str, Any]], broker: Served
) -> list[Row]:
    url, payload, channels = target
    count = run.count(NOTIFICATIONS, CONNECTIONS)
    bare = await _measure([lambda: _post(session, url, payload)] * CONNECTIONS, count)
    sent = request(broker.address, "/api/v1/notifications/send", msgspec.json.encode({**FIELDS, "channels": channels}))

    async with connected(broker.address, CONNECTIONS) as clients:
        before = broker.api_cpu_s()
        ours = await _measure([lambda client=client: _notify(client, sent) for client in clients], count)  # type: ignore[misc]
        used_s = broker.api_cpu_s() - before
    return [
        Row(
            name=f"notifications to {name}",
            shape=f"{CONNECTIONS} connections, {count:,} notifications to a local receiver",
            figure=ours.per_second,
            unit="notifications/s",
            goal=Goal("≥", 1_500),
            p99_ms=ours.p99_ms,
            api_cpu_s=used_s / (count + WARM_UP) * 1e6,
            peak_mb=broker.peak_mb(),
            note=f"bare client that posts them: {bare.per_second:,.0f}/s, p99 {bare.p99_ms:.1f} ms",
        ),
        Row(
            name=f"notifications to {name}: p99",
            shape=f"{CONNECTIONS} connections",
            figure=ours.p99_ms,
            unit="ms",
            goal=Goal("≤", 30),
        ),
    ]


async def _measure(senders: list[Send], count: int) -> Measured:
    await _repeat(senders, WARM_UP)
    started = time.perf_counter()
    seconds = await _repeat(senders, count)
    return Measured(count / (time.perf_counter() - started), p99(seconds) * 1e3)


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


async def _notify(client: HttpClient, sent: bytes) -> None:
    """Send a notification; raise RuntimeError when it was not delivered."""
    answer = await client.send(sent, 201)
    if b'"success":false' in answer.body:
        raise RuntimeError(f"answered {answer}")


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        response.raise_for_status()
        await response.read()


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
            length = content_length(head)
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
