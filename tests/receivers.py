"""Local servers in place of Slack, Telegram and webhooks, which accept and refuse what the real services do.

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
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as email_policy
from typing import Any, ClassVar, Literal, Self

import msgspec
from aiohttp import web

from tests.notify.telegram_markup import EntityError, read_markup

#: Requests of a client that keeps to a rate may arrive closer together, because their travel times differ.
_RATE_TOLERANCE = 0.9


class Accepted(msgspec.Struct, frozen=True):
    """A message that a receiver has accepted; `at` is in seconds of the monotonic clock."""

    at: float
    path: str
    headers: dict[str, str]
    body: Any
    #: The text that a person would read.
    text: str


class Fault(msgspec.Struct, frozen=True):
    """A failure of the receiver instead of the service's normal answer to a request."""

    kind: Literal["answer", "hang", "reset"]
    status: int = 500
    text: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    #: Whether the message is accepted before the failure (a lost answer), or not even read.
    accepts: bool = False


def answers(status: int, text: str = "", **headers: str) -> Fault:
    """Return a fault that answers with a status; header names are written with underscores."""
    return Fault("answer", status, text, {name.replace("_", "-"): value for name, value in headers.items()})


HANGS = Fault("hang")
HANGS_AFTER = Fault("hang", accepts=True)
RESETS_BEFORE = Fault("reset")
RESETS_AFTER = Fault("reset", accepts=True)


class Receiver:
    """A server on 127.0.0.1 that records the messages it accepts, and fails on demand."""

    name: ClassVar[str]

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        self.accepted: list[Accepted] = []
        #: Status of each answer that was not a success, in order.
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
        """Return the server's address, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def texts(self) -> list[str]:
        """Return the texts that a person would have read, in order."""
        return [message.text for message in self.accepted]

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Let the next `times` requests fail, after the faults planned before."""
        self._faults.extend([fault] * times)

    def fail_ratio(self, ratio: float, *faults: Fault, seed: int) -> None:
        """Let this share of all later requests fail at random, each with one of the faults, repeatably for a seed."""
        rng = random.Random(seed)
        self._random_fault = lambda: rng.choice(faults) if rng.random() < ratio else None

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the text that a person would read, or the answer that refuses the message."""
        raise NotImplementedError

    def success(self, body: Any) -> web.Response:
        """Return the service's answer to a message that it has accepted."""
        raise NotImplementedError

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.popleft() if self._faults else self._random_fault()
        if fault is not None and not fault.accepts:
            return await self._fail(request, fault)
        response = await self._receive(request)
        return response if fault is None else await self._fail(request, fault)

    async def _receive(self, request: web.Request) -> web.Response:
        raw = await request.read()
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            body = None
        result = self.check(request, body, raw)
        if isinstance(result, web.Response):
            self.refused.append(result.status)
            return result
        message = Accepted(time.monotonic(), request.path, dict(request.headers), body, result)
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
    """Close the connection with RST, as a crash or a firewall does."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


class _Rate:
    """A rate limit for each key: at most `count` messages in any `window_s` seconds."""

    def __init__(self, count: int, window_s: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._window_s = window_s * _RATE_TOLERANCE
        self._passed_at: dict[str, deque[float]] = {}

    def retry_after_s(self, key: str) -> int | None:
        """Return the whole seconds to wait, at least 1; None if a message may pass now."""
        passed_at = self._passed_at.get(key)
        if passed_at is None or len(passed_at) < self._count:
            return None
        early_s = passed_at[0] + self._window_s - self._clock()
        return max(1, round(early_s)) if early_s > 0 else None

    def count(self, key: str) -> None:
        """Count a message that passed now."""
        self._passed_at.setdefault(key, deque(maxlen=self._count)).append(self._clock())


class SlackReceiver(Receiver):
    """A receiver for Slack's incoming webhooks. `refusals` maps a webhook's path to its constant answer."""

    name = "slack"

    def __init__(
        self,
        port: int = 0,
        on_accept: Callable[[str, Accepted], None] | None = None,
        *,
        every_s: float | None = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow one message every `every_s` seconds for each webhook; None for no limit."""
        super().__init__(port, on_accept)
        self.refusals: dict[str, tuple[int, str]] = {}
        self._rate = None if every_s is None else _Rate(1, every_s, clock)

    @property
    def prefix(self) -> str:
        """Return SLACK_WEBHOOK_PREFIX for this receiver."""
        return f"{self.url}/"

    def webhook_url(self, name: str = "xyzABC123") -> str:
        """Return the address of a webhook; a webhook exists for every name."""
        return f"{self.url}/services/T123ABC456/B789DEF012/{name}"

    def archive(self, webhook_url: str) -> None:
        """Archive the channel behind a webhook."""
        self.refuse(webhook_url, 410, "channel_is_archived")

    def refuse(self, webhook_url: str, status: int, code: str) -> None:
        """Refuse all messages to a webhook."""
        self.refusals[webhook_url.removeprefix(self.url)] = (status, code)

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the payload's texts, or Slack's refusal: an error code as plain text."""
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
        """Return the answer `ok`."""
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
        return _check_slack_limits(body)


def _check_slack_limits(body: dict[str, Any]) -> tuple[int, str] | None:
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
    """Yield every text of a payload that a person would read."""
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
    """A receiver for the Bot API's sendMessage. All tokens and chats exist, except those that a test refuses."""

    name = "telegram"

    def __init__(
        self,
        port: int = 0,
        on_accept: Callable[[str, Accepted], None] | None = None,
        *,
        every_s: float | None = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Limit rates: in `every_s` seconds one message for a chat and 30 for a bot, in 60 times that 20 for a group.

        None for no limit.
        """
        super().__init__(port, on_accept)
        #: New ids of chats that have moved, by their old ids.
        self.moved: dict[str, int] = {}
        self.revoked_tokens: set[str] = set()
        self._refusals: dict[str, tuple[int, str]] = {}
        self._rates = {} if every_s is None else _telegram_rates(every_s, clock)

    def refuse(self, chat_id: int | str, status: int = 400, description: str = "Bad Request: chat not found") -> None:
        """Refuse all messages to a chat."""
        self._refusals[str(chat_id)] = (status, description)

    def block(self, chat_id: int | str) -> None:
        """Refuse all messages to a chat as after its user has blocked the bot."""
        self.refuse(chat_id, 403, "Forbidden: bot was blocked by the user")

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the visible text, or the Bot API's refusal: JSON with a description."""
        token, _, method = request.path.removeprefix("/bot").partition("/")
        if token in self.revoked_tokens:
            return _telegram_error(401, "Unauthorized")
        if method != "sendMessage" or not isinstance(body, dict):
            return _telegram_error(404, "Not Found")
        chat_id = str(body.get("chat_id", ""))
        return (
            self._check_chat(chat_id) or _check_text(body) or self._check_rates(token, chat_id) or _visible_text(body)
        )

    def success(self, body: Any) -> web.Response:
        """Return the Bot API's answer, which holds the message."""
        chat = {"id": body["chat_id"], "type": "private"}
        result = {"message_id": len(self.accepted), "date": int(time.time()), "chat": chat, "text": _visible_text(body)}
        return web.json_response({"ok": True, "result": result})

    def _check_chat(self, chat_id: str) -> web.Response | None:
        if not chat_id:
            return _telegram_error(400, "Bad Request: chat_id is empty")
        if chat_id in self.moved:
            description = "Bad Request: group chat was upgraded to a supergroup chat"
            return _telegram_error(400, description, migrate_to_chat_id=self.moved[chat_id])
        if chat_id in self._refusals:
            return _telegram_error(*self._refusals[chat_id])
        return None

    def _check_rates(self, token: str, chat_id: str) -> web.Response | None:
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


def _check_text(body: dict[str, Any]) -> web.Response | None:
    text = body.get("text") or ""
    if len(text.encode()) > 32_768:
        return _telegram_error(400, "Bad Request: text is too long")
    try:
        visible = _visible_text(body)
    except EntityError as error:
        return _telegram_error(400, f"Bad Request: can't parse entities: {error}")
    except LookupError:
        return _telegram_error(400, "Bad Request: unsupported parse_mode")
    if not visible.strip():
        return _telegram_error(400, "Bad Request: message text is empty")
    if len(visible.encode("utf-16-le")) // 2 > 4_096:
        return _telegram_error(400, "Bad Request: message is too long")
    return None


def _visible_text(body: dict[str, Any]) -> str:
    return read_markup(body.get("text") or "", body.get("parse_mode") or "")


def _telegram_error(status: int, description: str, **parameters: int) -> web.Response:
    answer: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        answer["parameters"] = parameters
    return web.json_response(answer, status=status)


class WebhookReceiver(Receiver):
    """A receiver that accepts any JSON."""

    name = "webhook"

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        super().__init__(port, on_accept)
        #: Bodies as received, for checking signatures.
        self.raw_bodies: list[bytes] = []

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the JSON with indentation, or a refusal if the body is not JSON."""
        if body is None:
            return web.Response(status=400, text="not JSON")
        self.raw_bodies.append(raw)
        return msgspec.json.format(raw, indent=2).decode()

    def success(self, body: Any) -> web.Response:
        """Return an answer without a body."""
        return web.Response(status=204)


class NtfyReceiver(Receiver):
    """A receiver for ntfy's JSON publishing. `protected` maps topics to the token that they need."""

    name = "ntfy"

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        super().__init__(port, on_accept)
        self.protected: dict[str, str] = {}

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return title and message, or ntfy's refusal: JSON with a code."""
        if request.path != "/" or not isinstance(body, dict):
            return _ntfy_error(400, 40024, "invalid request: request body must be valid JSON")
        topic = str(body.get("topic", ""))
        if not topic or not topic.replace("_", "").replace("-", "").isalnum() or len(topic) > 64:
            return _ntfy_error(400, 40009, "invalid request: topic invalid")
        if topic in self.protected and request.headers.get("Authorization") != f"Bearer {self.protected[topic]}":
            return _ntfy_error(403, 40301, "forbidden")
        if body.get("priority") not in (None, 1, 2, 3, 4, 5):
            return _ntfy_error(400, 40007, "invalid request: priority invalid")
        if len(str(body.get("message", "")).encode()) > 4_096:
            return _ntfy_error(413, 41301, "attachment too large, or message too long")
        return f"{body.get('title', '')}\n{body.get('message', '')}"

    def success(self, body: Any) -> web.Response:
        """Return the message with its id."""
        answer = {"id": f"m{len(self.accepted)}", "event": "message", "topic": body["topic"]}
        return web.json_response(answer)


def _ntfy_error(status: int, code: int, error: str) -> web.Response:
    return web.json_response({"code": code, "http": status, "error": error}, status=status)


class PagerDutyReceiver(Receiver):
    """A receiver for the Events API v2. `incidents` holds the summaries of open incidents by their dedup key."""

    name = "pagerduty"

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        super().__init__(port, on_accept)
        self.incidents: dict[str, str] = {}

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the summary, or PagerDuty's refusal: JSON with what is wrong."""
        errors = _pagerduty_errors(body, raw) if request.path == "/v2/enqueue" else ["not found"]
        if errors:
            answer = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
            return web.json_response(answer, status=400)
        if body["event_action"] == "resolve":
            self.incidents.pop(body["dedup_key"], None)
        else:
            self.incidents[body["dedup_key"]] = body["payload"]["summary"]
        return f"{body['event_action']}: {body['payload']['summary']}"

    def success(self, body: Any) -> web.Response:
        """Return that the event is queued."""
        answer = {"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]}
        return web.json_response(answer, status=202)


def _pagerduty_errors(body: Any, raw: bytes) -> list[str]:
    if not isinstance(body, dict) or len(raw) > 512_000:
        return ["the event is too large or no JSON"]
    payload = body.get("payload", {})
    return [
        text
        for is_wrong, text in (
            (len(str(body.get("routing_key", ""))) != 32, "'routing_key' must be 32 characters"),
            (body.get("event_action") not in ("trigger", "acknowledge", "resolve"), "'event_action' is invalid"),
            (not 1 <= len(str(body.get("dedup_key", ""))) <= 255, "'dedup_key' is too long"),
            (not 1 <= len(str(payload.get("summary", ""))) <= 1_024, "'payload.summary' is missing or too long"),
            (not payload.get("source"), "'payload.source' is missing or blank"),
            (payload.get("severity") not in ("critical", "error", "warning", "info"), "'payload.severity' is invalid"),
        )
        if is_wrong
    ]


class DiscordReceiver(Receiver):
    """A receiver for Discord's webhooks. `deleted` holds the paths of webhooks that no longer exist."""

    name = "discord"

    def __init__(self, port: int = 0, on_accept: Callable[[str, Accepted], None] | None = None) -> None:
        super().__init__(port, on_accept)
        self.deleted: set[str] = set()

    @property
    def webhook_url(self) -> str:
        """Return the address of a webhook."""
        return f"{self.url}/api/webhooks/123/token-abc"

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the texts, or Discord's refusal: JSON with a code."""
        if request.path in self.deleted or not request.path.startswith("/api/webhooks/"):
            return web.json_response({"message": "Unknown Webhook", "code": 10015}, status=404)
        content, embeds = body.get("content", ""), body.get("embeds", [])
        texts = [each.get("description", "") for each in embeds]
        is_wrong = (
            _utf16(content) > 2_000
            or len(embeds) > 10
            or any(not 1 <= _utf16(text) <= 4_096 for text in texts)
            or sum(map(_utf16, texts)) > 6_000
        )
        if is_wrong:
            return web.json_response({"message": "Invalid Form Body", "code": 50035}, status=400)
        if not content and not embeds:
            return web.json_response({"message": "Cannot send an empty message", "code": 50006}, status=400)
        return "\n".join([content, *texts])

    def success(self, body: Any) -> web.Response:
        """Return the message, as after `wait=true`."""
        return web.json_response({"id": str(len(self.accepted)), "content": body.get("content", "")})


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class TeamsReceiver(Receiver):
    """A receiver for a workflow of Teams, which takes Adaptive Cards of at most 28 KB."""

    name = "teams"

    def check(self, request: web.Request, body: Any, raw: bytes) -> str | web.Response:
        """Return the texts of the card, or the refusal of a body that is none."""
        attachments = body.get("attachments", []) if isinstance(body, dict) else []
        kinds = {each.get("contentType") for each in attachments}
        if kinds != {"application/vnd.microsoft.card.adaptive"} or len(raw) > 28 * 1024:
            return web.json_response({"error": {"code": "TriggerInputSchemaMismatch"}}, status=400)
        return "\n".join(_card_texts(attachments[0]["content"]["body"]))

    def success(self, body: Any) -> web.Response:
        """Return that the workflow has started."""
        return web.Response(status=202)


def _card_texts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        if "text" in block:
            yield block["text"]
        yield from _card_texts(block.get("items", []))


class MailReceiver:
    """An SMTP server on 127.0.0.1 without TLS that keeps the mails it takes, and refuses on demand."""

    def __init__(self) -> None:
        #: The mails, as (recipients, mail).
        self.mails: list[tuple[list[str], EmailMessage]] = []
        #: Answers in place of the usual ones, by the first word of the command, such as `RCPT`. `AFTER` is that to the
        #: mail itself; an empty answer cuts the connection.
        self.answers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients: list[str] = []
        writer.write(b"220 mail.test ESMTP\r\n")
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := (await reader.readline()).decode().strip():
                verb = line.split()[0].upper()
                if verb == "RCPT":
                    recipients.append(line.partition("<")[2].rstrip(">"))
                answer = self.answers.get(verb, _SMTP_ANSWERS.get(verb, "502 not implemented"))
                if verb == "DATA" and verb not in self.answers:
                    writer.write(b"354 go on\r\n")
                    raw = await reader.readuntil(b"\r\n.\r\n")
                    answer = self.answers.get("AFTER", "250 taken")
                    if answer.startswith("2") or not answer:
                        mail = message_from_bytes(raw[:-3].replace(b"\r\n..", b"\r\n."), policy=email_policy)
                        self.mails.append((recipients, mail))
                if not answer:
                    break
                writer.write(f"{answer}\r\n".encode())
                await writer.drain()
                if verb == "QUIT":
                    break
        writer.close()


_SMTP_ANSWERS = {
    "EHLO": "250 mail.test",
    "HELO": "250 mail.test",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


def print_accepted(name: str, message: Accepted) -> None:
    """Print a message to the terminal."""
    lines = "\n".join(f"  | {line}" for line in message.text.splitlines())
    print(f"{time.strftime('%H:%M:%S')} {name}\n{lines}\n", flush=True)


async def run_receivers(slack_port: int, telegram_port: int, webhook_port: int) -> None:
    """Serve all three until SIGINT or SIGTERM; print their addresses and the messages that arrive."""
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
    """Run local receivers for Slack, Telegram and webhooks; port 0, the default, is any free port."""
    parser = argparse.ArgumentParser(prog="python -m tests.receivers", description=main.__doc__)
    for name in ("slack", "telegram", "webhook"):
        parser.add_argument(f"--{name}-port", type=int, default=0, metavar="PORT")
    ports = parser.parse_args()
    asyncio.run(run_receivers(ports.slack_port, ports.telegram_port, ports.webhook_port))


if __name__ == "__main__":
    main()
