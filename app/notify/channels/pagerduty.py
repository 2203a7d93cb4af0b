"""PagerDuty services by the Events API v2: https://developer.pagerduty.com/docs/events-api-v2-overview.

All alerts of a group are one incident: its messages trigger it, and it is resolved when nothing of the group is left.
"""

import hashlib
import re
from typing import Any, Final

import aiohttp
import msgspec

from app.model import LevelName
from app.notify.message import LEVELS, Entry, Message, RenderedMessage
from app.notify.message_lines import PLAIN, clip, fit, write
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Endpoints, Post, fingerprint, refusal, send_post

TYPE: Final = "pagerduty"

SUMMARY_CHARS: Final = 1_024
#: Limit of the text in the details of an incident; an event has at most 512 KB.
TEXT_CHARS: Final = 20_000
_KEY: Final = re.compile(r"[A-Za-z0-9]{32}")
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404})
_SEVERITIES: Final[dict[LevelName, str]] = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "critical",
    "disaster": "critical",
}


class Config(ChannelConfig, frozen=True):
    """The integration of a service; the address is another one in the EU and for relays."""

    routing_key: str
    url: str = "https://events.pagerduty.com/v2/enqueue"

    def __post_init__(self) -> None:
        if _KEY.fullmatch(self.routing_key) is None:
            raise ValueError("routing_key must be the integration key: 32 letters and digits")
        if not self.url.startswith(("https://", "http://")):
            raise ValueError("url must be an http:// or https:// address")


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Allow any address, because the operator chooses it."""
    return None


def destination(config: Config) -> str:
    """Return a name for the service that does not reveal its key."""
    return fingerprint(TYPE, config.url, config.routing_key)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow two events a second for each service; PagerDuty takes 120 a minute."""
    return (SendLimit(destination(config), every_s=0.5, burst=5),)


def render(message: Message) -> RenderedMessage:
    """Return the event; the key is added when it is sent."""
    body: dict[str, Any] = {
        "event_action": "resolve" if message.is_end else "trigger",
        "dedup_key": _dedup_key(message),
        "client": "Tidegauge",
        "payload": _payload(message),
    }
    if message.page is not None:
        body["client_url"] = message.page
        body["links"] = [{"href": message.page, "text": "Alert"}]
    return RenderedMessage(body)


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Send the event; 202 means that PagerDuty has queued it."""
    answer = await send_post(session, _post(config, rendered))
    if answer.ok and b'"success"' in answer.body:
        return Delivered(response=answer.status)
    raise refusal(answer, f"PagerDuty answered {answer.status}", channel_broken=answer.status in _CHANNEL_BROKEN)


def _post(config: Config, rendered: RenderedMessage) -> Post:
    return Post(config.url, msgspec.json.encode({"routing_key": config.routing_key, **rendered.body}))


def _payload(message: Message) -> dict[str, Any]:
    fitted = fit(message, lambda lines: len(write(lines, PLAIN)) + 2, TEXT_CHARS)
    text = "\n\n".join(write(lines, PLAIN) for lines in fitted.blocks() if lines != (fitted.title,))
    return {
        "summary": clip(message.title, SUMMARY_CHARS),
        "source": message.entries[0].sensor if message.entries else "Tidegauge",
        "severity": _SEVERITIES[_level(message)],
        "component": message.rule or "Tidegauge",
        "group": message.group,
        "custom_details": {"text": text},
    }


def _level(message: Message) -> LevelName:
    """Return the level of the most severe entry, those that fire before those that are over."""
    if message.level is not None:
        return message.level
    if not message.entries:
        return "info"

    def rank(entry: Entry) -> tuple[bool, int]:
        return not entry.over, LEVELS[entry.level].priority

    return max(message.entries, key=rank).level


def _dedup_key(message: Message) -> str:
    """Return what the events of one incident have in common; a message without a rule is an incident of its own."""
    return hashlib.sha256((message.group_key or message.title).encode()).hexdigest()
