"""Discord webhooks: https://discord.com/developers/docs/resources/webhook#execute-webhook."""

import re
from typing import Any, Final

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.message_lines import Lines, Markup, clip, fit, markdown_link, utf16_units, write
from app.notify.pacing import SendLimit
from app.notify.transport import (
    Answer,
    ChannelConfig,
    Delivered,
    DeliveryError,
    Endpoints,
    Post,
    fingerprint,
    refusal,
    send_post,
)

TYPE: Final = "discord"

CONTENT_UNITS: Final = 2_000
#: Limit of the characters of all embeds together; there may be ten embeds.
EMBEDS_UNITS: Final = 5_500
MAX_EMBEDS: Final = 10
#: Entries of the same colour are one embed, up to this length.
EMBED_UNITS: Final = 4_000
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404})
_RESERVED: Final = re.compile(r"([\\*_~`|>#\[\]()-])")


class Config(ChannelConfig, frozen=True):
    """The webhook of a channel; the whole address is secret."""

    webhook_url: str

    def __post_init__(self) -> None:
        if not self.webhook_url.startswith(("https://", "http://")):
            raise ValueError("webhook_url must be an https:// address")


class _ErrorBody(msgspec.Struct, frozen=True):
    """What Discord answers with an error."""

    code: int | None = None
    retry_after: float | None = None


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Allow any address, because relays have others."""
    return None


def destination(config: Config) -> str:
    """Return a name for the webhook that does not reveal its address."""
    return fingerprint(TYPE, config.webhook_url)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow five messages at once and one every two seconds: Discord takes 30 a minute for each webhook."""
    return (SendLimit(destination(config), every_s=2.0, burst=5),)


def render(message: Message) -> RenderedMessage:
    """Return the message as text and coloured embeds; nobody is mentioned, whatever a sensor is called."""
    fitted = fit(message, _cost, EMBEDS_UNITS, entry_limit=EMBED_UNITS)
    embeds: list[dict[str, Any]] = []
    for entry, lines in fitted.entries:
        _add(embeds, int(entry.style.colour.removeprefix("#"), 16), write(lines, MARKDOWN))
    tail = [write(lines, MARKDOWN) for lines in (fitted.more, fitted.footer) if lines]
    for text in tail:
        _add(embeds, int(message.style.colour.removeprefix("#"), 16), text)
    head = "\n".join(write(lines, MARKDOWN) for lines in ((fitted.title,), fitted.text) if lines)
    body: dict[str, Any] = {"content": clip(head, CONTENT_UNITS), "embeds": embeds, "allowed_mentions": {"parse": []}}
    if message.silent:
        body["flags"] = 1 << 12
    return RenderedMessage(body)


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Post to the webhook and wait until the message is stored; the answer is the message."""
    separator = "&" if "?" in config.webhook_url else "?"
    answer = await send_post(
        session, Post(f"{config.webhook_url}{separator}wait=true", msgspec.json.encode(rendered.body))
    )
    if answer.ok and b'"id"' in answer.body:
        return Delivered(response=answer.status)
    raise _refuse(answer)


def _add(embeds: list[dict[str, Any]], colour: int, text: str) -> None:
    """Add a text to the last embed if that has the colour and room for it, or if there may be no further one."""
    last = embeds[-1] if embeds else None
    fits = last is not None and utf16_units(last["description"]) + utf16_units(text) + 2 <= 4_096
    if last is not None and fits and (last["color"] == colour or len(embeds) == MAX_EMBEDS):
        last["description"] += f"\n\n{text}"
    else:
        embeds.append({"color": colour, "description": text})


def _refuse(answer: Answer) -> DeliveryError:
    try:
        body = msgspec.json.decode(answer.body, type=_ErrorBody)
    except msgspec.DecodeError:
        body = _ErrorBody()
    code = "" if body.code is None else f": error {body.code}"
    return refusal(
        answer,
        f"Discord answered {answer.status}{code}",
        channel_broken=answer.status in _CHANNEL_BROKEN,
        retry_after_s=body.retry_after,
    )


def _escape(text: str) -> str:
    return _RESERVED.sub(r"\\\1", text)


MARKDOWN: Final = Markup(escape=_escape, bold=lambda text: f"**{text}**", link=markdown_link)


def _cost(lines: Lines) -> int:
    return utf16_units(write(lines, MARKDOWN)) + 2
