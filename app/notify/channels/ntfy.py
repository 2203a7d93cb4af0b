"""ntfy topics: https://docs.ntfy.sh/publish/#publish-as-json."""

import re
from typing import Any, Final

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.message_lines import PLAIN, Lines, fit, write
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Endpoints, Post, fingerprint, refusal, send_post

TYPE: Final = "ntfy"

#: A longer message becomes an attachment, which phones do not show.
MESSAGE_BYTES: Final = 4_096
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404})
#: ntfy's priorities, from 1 to 5, by ours; what is over makes no sound.
_PRIORITIES: Final = {0: 2, 1: 3, 2: 3, 3: 4, 4: 5, 5: 5}


class Config(ChannelConfig, frozen=True):
    """A topic of a server. On a public server, who knows the topic can read it."""

    topic: str
    url: str = "https://ntfy.sh"
    #: An access token, for topics that are protected.
    token: str | None = None

    def __post_init__(self) -> None:
        if _TOPIC.fullmatch(self.topic) is None:
            raise ValueError("topic must be letters, digits, _ and -, at most 64")
        if not self.url.startswith(("https://", "http://")):
            raise ValueError("url must be the http:// or https:// address of the server")


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Allow any server, because the operator chooses it."""
    return None


def destination(config: Config) -> str:
    """Return a name for the topic, which may be secret."""
    return fingerprint(TYPE, config.url, config.topic)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow what the public server does: 60 messages at once, then one every five seconds."""
    return (SendLimit(destination(config), every_s=5.0, burst=60),)


def render(message: Message) -> RenderedMessage:
    """Return the message as JSON; the topic is added when it is sent."""
    fitted = fit(message, _cost, MESSAGE_BYTES)
    body: dict[str, Any] = {
        "title": message.title,
        "message": "\n\n".join(write(lines, PLAIN) for lines in fitted.blocks() if lines != (fitted.title,)) or "–",
        "priority": 2 if message.silent else _PRIORITIES[message.style.priority],
        "tags": [message.style.emoji],
    }
    if message.page is not None:
        body["click"] = message.page
    return RenderedMessage(body)


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Publish to the topic; the answer holds the message with its id."""
    answer = await send_post(session, _post(config, rendered))
    if answer.ok and b'"id"' in answer.body:
        return Delivered(response=answer.status)
    raise refusal(answer, f"ntfy answered {answer.status}", channel_broken=answer.status in _CHANNEL_BROKEN)


def _post(config: Config, rendered: RenderedMessage) -> Post:
    headers = {} if config.token is None else {"Authorization": f"Bearer {config.token}"}
    body = msgspec.json.encode({"topic": config.topic, **rendered.body})
    return Post(config.url.rstrip("/") + "/", body, headers)


def _cost(lines: Lines) -> int:
    return len(write(lines, PLAIN).encode("utf-8", "replace")) + len("\n\n")
