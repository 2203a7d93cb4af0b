"""Local stand-ins for Slack, Telegram and any webhook: they take what the real ones take, refuse what those refuse.

In a test: `async with SlackReceiver() as slack: …`. By hand: `python -m tests.receivers` prints what arrives.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, Self

import msgspec
from aiohttp import web

from tests.notify.telegram_markup import EntityError, read_markup

#: A client that keeps to a rate may be early by as much as its requests' travel times differ.
_RATE_TOLERANCE = 0.9


class Accepted(msgspec.Struct, frozen=True):
    """One message that a receiver has taken; `at` is of the monotonic clock, in seconds."""

    at: float
    path: str
    headers: dict[str, str]
    body: Any
    #: What a person would read.
    text: str


class Fault(msgspec.Struct, frozen=True):
    """What happens to a request in place of its proper answer."""

    kind: Literal["answer", "hang", "reset"]
    status: int = 500
    text: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    #: Whether the message is taken all the same (a lost answer) or not even read.
    accepts: bool = False


def answers(status: int, text: str = "", **headers: str) -> Fault:
    """Refuse with a status; header names are written with underscores."""
    return Fault("answer", status, text, {name.replace("_", "-"): value for name, value in headers.items()})


HANGS = Fault("hang")
HANGS_AFTER = Fault("hang", accepts=True)
RESETS_BEFORE = Fault("reset")
RESETS_AFTER = Fault("reset", accepts=True)


class Receiver:
    """A server on 127.0.0.1 that records what it takes, and fails on demand."""

    name: ClassVar[str]

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        self.accepted: list[Accepted] = []
        #: Status of every answer that was not a success, in order.
        self.refused: list[int] = []
        self._port = port
        self._on_accept = on_accept
        self._faults: deque[Fault] = deque()
        self._random_fault: Callable[[], Fault | None] = lambda: None
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def texts(self) -> list[str]:
        """What a person would have read, in order."""
        return [message.text for message in self.accepted]

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Let the next requests fail, after those planned before."""
        self._faults.extend([fault] * times)

    def fail_ratio(self, ratio: float, *faults: Fault, seed: int) -> None:
        """Let this share of all further requests fail, each with one of the faults, the same for the same seed."""
        rng = random.Random(seed)
        self._random_fault = lambda: rng.choice(faults) if rng.random() < ratio else None

    def judge(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Give the text to record, or the refusal."""
        raise NotImplementedError

    def success(self, body: Any) -> web.Response:
        """Answer as the service does when it has taken a message."""
        raise NotImplementedError

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.popleft() if self._faults else self._random_fault()
        if fault is not None and not fault.accepts:
            return await self._fail(request, fault)
        response = await self._take(request)
        return response if fault is None else await self._fail(request, fault)

    async def _take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            body = None
        verdict = self.judge(request, body, raw)
        if isinstance(verdict, web.Response):
            self.refused.append(verdict.status)
            return verdict
        message = Accepted(time.monotonic(), request.path, dict(request.headers), body, verdict)
        self.accepted.append(message)
        if self._on_accept is not None:
            self._on_accept(self.name, message)
        return self.success(body)

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.kind == "hang":
            await self._closing.wait()
        if fault.kind == "answer":
            self.refused.append(fault.status)
            return web.Response(status=fault.status, text=fault.text, headers=fault.headers)
        _reset(request)
        return web.Response()


def _reset(request: web.Request) -> None:
    """Break the connection with RST, as a crash or a firewall does."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


class _Rate:
    """Lets at most `count` through in any `window_s`, by key."""

    def __init__(self, count: int, window_s: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._window_s = window_s * _RATE_TOLERANCE
        self._passed_at: dict[str, deque[float]] = {}

    def retry_after_s(self, key: str) -> int | None:
        """Whole seconds to wait, at least 1; None if the next may pass."""
        passed_at = self._passed_at.get(key)
        if passed_at is None or len(passed_at) < self._count:
            return None
        early_s = passed_at[0] + self._window_s - self._clock()
        return max(1, round(early_s)) if early_s > 0 else None

    def count(self, key: str) -> None:
        """Count one that passed now."""
        self._passed_at.setdefault(key, deque(maxlen=self._count)).append(self._clock())


class SlackReceiver(Receiver):
    """Slack's incoming webhooks. `refusals` maps a webhook's path to what it always answers."""

    name = "slack"

    def __init__(
        self,
        port: int = 0,
        on_accept: Callable[[str, Accepted], None] | None = None,
        *,
        every_s: float | None = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`every_s`: the rate limit of each webhook; None for no limit."""
        super().__init__(port, on_accept)
        self.refusals: dict[str, tuple[int, str]] = {}
        self._rate = None if every_s is None else _Rate(1, every_s, clock)

    @property
    def prefix(self) -> str:
        """SLACK_WEBHOOK_PREFIX for this receiver."""
        return f"{self.url}/"

    def webhook_url(self, name: str = "xyzABC123") -> str:
        """The address of one of its webhooks; all exist."""
        return f"{self.url}/services/T123ABC456/B789DEF012/{name}"

    def archive(self, webhook_url: str) -> None:
        """Archive the channel behind a webhook."""
        self.refuse(webhook_url, 410, "channel_is_archived")

    def refuse(self, webhook_url: str, status: int, code: str) -> None:
        """Refuse all messages to a webhook."""
        self.refusals[webhook_url.removeprefix(self.url)] = (status, code)

    def judge(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Refuse as Slack does, with a code as plain text."""
        refusal = self._refusal(request, body)
        if refusal is not None:
            return web.Response(status=refusal[0], text=refusal[1])
        if self._rate is not None:
            wait_s = self._rate.retry_after_s(request.path)
            if wait_s is not None:
                return web.Response(status=429, text="rate_limited", headers={"Retry-After": str(wait_s)})
            self._rate.count(request.path)
        return "\n".join(_slack_texts(body))

    def success(self, body: Any) -> web.Response:
        """Answer `ok`."""
        return web.Response(text="ok")

    def _refusal(self, request: web.Request, body: Any) -> tuple[int, str] | None:
        if not request.path.startswith("/services/"):
            return 404, "no_team"
        if request.path in self.refusals:
            return self.refusals[request.path]
        if not isinstance(body, dict) or request.content_type != "application/json":
            return 400, "invalid_payload"
        if not any(body.get(key) for key in ("text", "blocks", "attachments")):
            return 400, "no_text"
        return _find_slack_excess(body)


def _find_slack_excess(body: dict[str, Any]) -> tuple[int, str] | None:
    attachments = body.get("attachments", [])
    blocks = [*body.get("blocks", []), *(block for part in attachments for block in part.get("blocks", []))]
    sections = [block["text"]["text"] for block in blocks if block["type"] == "section"]
    if len(attachments) > 100:
        return 400, "too_many_attachments"
    if len(blocks) > 50 or any(not 1 <= len(text) <= 3_000 for text in sections):
        return 400, "invalid_blocks"
    if len(body.get("text", "")) > 40_000 or sum(len(text) for text in _slack_texts(body)) > 13_000:
        return 400, "msg_too_long"
    return None


def _slack_texts(part: Any) -> Iterator[str]:
    """Every text of a payload that a person would read."""
    if isinstance(part, list):
        for item in part:
            yield from _slack_texts(item)
    elif isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, str) and key in ("text", "title", "value", "footer", "pretext"):
                yield value
            elif key in ("text", "blocks", "elements", "attachments", "fields"):
                yield from _slack_texts(value)


class TelegramReceiver(Receiver):
    """The Bot API's sendMessage. Every token and chat exists unless said otherwise."""

    name = "telegram"

    def __init__(
        self,
        port: int = 0,
        on_accept: Callable[[str, Accepted], None] | None = None,
        *,
        every_s: float | None = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`every_s`: the rate limit of each chat, from which those of bots and groups follow; None for no limit."""
        super().__init__(port, on_accept)
        #: Where chats have moved.
        self.moved: dict[str, int] = {}
        self.revoked_tokens: set[str] = set()
        self._refusals: dict[str, tuple[int, str]] = {}
        self._rates = {} if every_s is None else _telegram_rates(every_s, clock)

    def refuse(self, chat_id: int | str, status: int = 400, description: str = "Bad Request: chat not found") -> None:
        """Refuse all messages to a chat."""
        self._refusals[str(chat_id)] = (status, description)

    def block(self, chat_id: int | str) -> None:
        """Let the user behind a chat block the bot."""
        self.refuse(chat_id, 403, "Forbidden: bot was blocked by the user")

    def judge(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Refuse as the Bot API does, with a description as JSON."""
        token, _, method = request.path.removeprefix("/bot").partition("/")
        if token in self.revoked_tokens:
            return _telegram_error(401, "Unauthorized")
        if method != "sendMessage" or not isinstance(body, dict):
            return _telegram_error(404, "Not Found")
        chat_id = str(body.get("chat_id", ""))
        return self._refuse_chat(chat_id) or _judge_text(body) or self._limit(token, chat_id) or _seen(body)

    def success(self, body: Any) -> web.Response:
        """Answer with the message as the Bot API would."""
        chat = {"id": body["chat_id"], "type": "private"}
        result = {"message_id": len(self.accepted), "date": int(time.time()), "chat": chat, "text": _seen(body)}
        return web.json_response({"ok": True, "result": result})

    def _refuse_chat(self, chat_id: str) -> web.Response | None:
        if not chat_id:
            return _telegram_error(400, "Bad Request: chat_id is empty")
        if chat_id in self.moved:
            description = "Bad Request: group chat was upgraded to a supergroup chat"
            return _telegram_error(400, description, migrate_to_chat_id=self.moved[chat_id])
        if chat_id in self._refusals:
            return _telegram_error(*self._refusals[chat_id])
        return None

    def _limit(self, token: str, chat_id: str) -> web.Response | None:
        keys = {"bot": token, "chat": f"{token}/{chat_id}"}
        if chat_id.startswith(("-", "@")):
            keys["group"] = keys["chat"]
        rates = [(rate, keys[name]) for name, rate in self._rates.items() if name in keys]
        waits = [wait_s for rate, key in rates if (wait_s := rate.retry_after_s(key)) is not None]
        if waits:
            wait_s = max(waits)
            return _telegram_error(429, f"Too Many Requests: retry after {wait_s}", retry_after=wait_s)
        for rate, key in rates:
            rate.count(key)
        return None


def _telegram_rates(every_s: float, clock: Callable[[], float]) -> dict[str, _Rate]:
    return {
        "bot": _Rate(30, every_s, clock),
        "chat": _Rate(1, every_s, clock),
        "group": _Rate(20, 60 * every_s, clock),
    }


def _judge_text(body: dict[str, Any]) -> web.Response | None:
    text = body.get("text") or ""
    if len(text.encode()) > 32_768:
        return _telegram_error(400, "Bad Request: text is too long")
    try:
        seen = _seen(body)
    except EntityError as error:
        return _telegram_error(400, f"Bad Request: can't parse entities: {error}")
    except LookupError:
        return _telegram_error(400, "Bad Request: unsupported parse_mode")
    if not seen.strip():
        return _telegram_error(400, "Bad Request: message text is empty")
    if len(seen.encode("utf-16-le")) // 2 > 4_096:
        return _telegram_error(400, "Bad Request: message is too long")
    return None


def _seen(body: dict[str, Any]) -> str:
    return read_markup(body.get("text") or "", body.get("parse_mode") or "")


def _telegram_error(status: int, description: str, **parameters: int) -> web.Response:
    answer: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        answer["parameters"] = parameters
    return web.json_response(answer, status=status)


class WebhookReceiver(Receiver):
    """Takes any JSON."""

    name = "webhook"

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        super().__init__(port, on_accept)
        #: Bodies as they came, for checking signatures.
        self.raw_bodies: list[bytes] = []

    def judge(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Refuse what is no JSON."""
        if body is None:
            return web.Response(status=400, text="not JSON")
        self.raw_bodies.append(raw)
        return msgspec.json.format(raw, indent=2).decode()

    def success(self, body: Any) -> web.Response:
        """Answer without a body."""
        return web.Response(status=204)


def print_accepted(name: str, message: Accepted) -> None:
    """Show a message on the terminal."""
    lines = "\n".join(f"  | {line}" for line in message.text.splitlines())
    print(f"{time.strftime('%H:%M:%S')} {name}\n{lines}\n", flush=True)


async def run_receivers(slack_port: int, telegram_port: int, webhook_port: int) -> None:
    """Serve all three until SIGINT or SIGTERM, printing how to reach them and what arrives."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        slack = await stack.enter_async_context(SlackReceiver(slack_port, print_accepted))
        telegram = await stack.enter_async_context(TelegramReceiver(telegram_port, print_accepted))
        webhook = await stack.enter_async_context(WebhookReceiver(webhook_port, print_accepted))
        print(f"SLACK_WEBHOOK_PREFIX={slack.prefix}")
        print(f"SLACK_WEBHOOK_URL={slack.webhook_url()}")
        print(f"TELEGRAM_API_BASE={telegram.url}")
        print(f"# any webhook: {webhook.url}/", flush=True)
        await stop.wait()


def main() -> None:
    """Read the ports (0, the default: any free one) and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.receivers", description=main.__doc__)
    for name in ("slack", "telegram", "webhook"):
        parser.add_argument(f"--{name}-port", type=int, default=0, metavar="PORT")
    ports = parser.parse_args()
    asyncio.run(run_receivers(ports.slack_port, ports.telegram_port, ports.webhook_port))


if __name__ == "__main__":
    main()
