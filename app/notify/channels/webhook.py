"""Webhooks: the message is posted as JSON to any HTTP endpoint, signed if a secret is configured."""

import hashlib
import hmac
import re
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Endpoints, Post, fingerprint, refusal, send_post

TYPE: Final = "webhook"

#: Bytes of entries in one body; further entries are left out and counted in `omitted`.
ENTRIES_BYTES: Final = 256 * 1024
SIGNATURE_HEADER: Final = "X-Tidegauge-Signature"

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OWN_HEADERS: Final = frozenset(
    {"content-type", "content-length", "host", "transfer-encoding", SIGNATURE_HEADER.lower()}
)
_CHANNEL_BROKEN: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 410})


class Config(ChannelConfig, frozen=True):
    """An endpoint. Its address and headers may be secret as well."""

    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    #: Key for the HMAC-SHA256 of the body, which is sent as `X-Tidegauge-Signature: sha256=<hex>`.
    secret: str | None = None

    def __post_init__(self) -> None:
        if not _is_web_address(self.url):
            raise ValueError("url must be an http:// or https:// address")
        for name, value in self.headers.items():
            if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
                raise ValueError(f"headers has a name or value that HTTP does not allow: {name!r}")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"headers must not set {name}")


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Allow any address, because the operator chooses it."""
    return None


def destination(config: Config) -> str:
    """Return a name for the endpoint that does not reveal its address."""
    return fingerprint(TYPE, config.url)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow ten messages a second for each endpoint."""
    return (SendLimit(destination(config), every_s=0.1, burst=10),)


def render(message: Message) -> RenderedMessage:
    """Return the whole message as JSON; times are RFC 3339."""
    entries = _fit_entries(message)
    body = {
        "version": 1,
        "title": message.title,
        "rule": message.rule,
        "group": message.group,
        "is_end": message.is_end,
        "emoji": message.style.emoji,
        "colour": message.style.colour,
        "text": message.text,
        "entries": entries,
        "omitted": len(message.every_entry or message.entries) - len(entries),
        "footer": message.footer,
        "silent": message.silent,
    }
    return RenderedMessage(body)


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Post to the endpoint; any 2xx status means that it has accepted the message."""
    body = msgspec.json.encode(rendered.body)
    answer = await send_post(session, Post(config.url, body, _headers(config, body)))
    if answer.ok:
        return Delivered(response=answer.status)
    # The answer's body is not passed on, because it may quote our headers.
    reason = f"the webhook answered {answer.status}"
    raise refusal(answer, reason, channel_broken=answer.status in _CHANNEL_BROKEN)


def sign(secret: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of a body, in hexadecimal."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _headers(config: Config, body: bytes) -> dict[str, str]:
    if config.secret is None:
        return config.headers
    return {**config.headers, SIGNATURE_HEADER: f"sha256={sign(config.secret, body)}"}


def _fit_entries(message: Message) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    left = ENTRIES_BYTES
    for entry in message.every_entry or message.entries:
        encoded = msgspec.json.encode(entry)
        left -= len(encoded)
        if left < 0:
            break
        kept.append(msgspec.json.decode(encoded))
    return kept


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
