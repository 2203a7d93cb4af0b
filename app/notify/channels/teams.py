"""Microsoft Teams by a workflow that posts Adaptive Cards "when a Teams webhook request is received".

https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
"""

import re
from typing import Any, Final

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.message_lines import Lines, Markup, fit, markdown_link, write
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Endpoints, Post, fingerprint, refusal, send_post

TYPE: Final = "teams"

#: A card has at most 28 KB.
CARD_BYTES: Final = 20_000
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404, 410})
_RESERVED: Final = re.compile(r"([\\*_`\[\]()#])")
#: Colours of a card's text, by the priority of a level.
_COLOURS: Final = {0: "good", 1: "accent", 2: "warning", 3: "attention", 4: "attention", 5: "attention"}


class Config(ChannelConfig, frozen=True):
    """The address of a workflow; the whole address is secret."""

    webhook_url: str

    def __post_init__(self) -> None:
        if not self.webhook_url.startswith(("https://", "http://")):
            raise ValueError("webhook_url must be an https:// address")


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Refuse the addresses of Office 365 connectors, which Microsoft has switched off."""
    if ".webhook.office.com" in config.webhook_url or "outlook.office.com" in config.webhook_url:
        return "webhook_url is that of a retired Office 365 connector; make a workflow in Teams and use its address"
    return None


def destination(config: Config) -> str:
    """Return a name for the workflow that does not reveal its address."""
    return fingerprint(TYPE, config.webhook_url)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow one message a second for each workflow; Teams takes four."""
    return (SendLimit(destination(config), every_s=1.0, burst=2),)


def render(message: Message) -> RenderedMessage:
    """Return the message as an Adaptive Card."""
    fitted = fit(message, _cost, CARD_BYTES)
    blocks = [_block(write((fitted.title,), MARKDOWN), _COLOURS[message.style.priority], size="medium")]
    blocks += [_block(write(lines, MARKDOWN)) for lines in (fitted.text,) if lines]
    blocks += [_entry(write(lines, MARKDOWN), _COLOURS[entry.style.priority]) for entry, lines in fitted.entries]
    blocks += [_block(write(lines, MARKDOWN)) for lines in (fitted.more, fitted.footer) if lines]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": blocks,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return RenderedMessage({"type": "message", "attachments": [attachment]})


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Post to the workflow; 202 means that it has started."""
    answer = await send_post(session, Post(config.webhook_url, msgspec.json.encode(rendered.body)))
    if answer.ok:
        return Delivered(response=answer.status)
    raise refusal(answer, f"Teams answered {answer.status}", channel_broken=answer.status in _CHANNEL_BROKEN)


def _block(text: str, colour: str = "default", size: str = "default") -> dict[str, Any]:
    return {"type": "TextBlock", "text": text, "wrap": True, "color": colour, "size": size}


def _entry(text: str, colour: str) -> dict[str, Any]:
    """Return the lines of an entry, the first in its colour; a card breaks lines at an empty one only."""
    first, *rest = text.split("\n")
    items = [_block(first, colour), *(_block(line) for line in rest)]
    return {"type": "Container", "separator": True, "spacing": "small", "items": items}


def _escape(text: str) -> str:
    return _RESERVED.sub(r"\\\1", text)


MARKDOWN: Final = Markup(escape=_escape, bold=lambda text: f"**{text}**", link=markdown_link)


def _cost(lines: Lines) -> int:
    """Return the bytes of some lines in a card: their text as JSON, and a block for each."""
    return len(msgspec.json.encode(write(lines, MARKDOWN))) + 120 * (len(lines) + 1)
