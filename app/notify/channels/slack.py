"""Slack incoming webhooks: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks."""

import itertools
import re
from typing import Any, Final

import aiohttp
import msgspec

from app.notify.message import PLAIN, Lines, Markup, Message, RenderedMessage, clip, fit, write
from app.notify.pacing import SendLimit
from app.notify.transport import (
    Answer,
    ChannelConfig,
    Delivered,
    DeliveryError,
    Endpoints,
    PermanentError,
    Post,
    fingerprint,
    refusal,
    send_post,
)

TYPE: Final = "slack"

# Documented are 3,000 a section and 50 blocks; in practice refusals begin at about 13,000 in all.
SECTION_CHARS: Final = 3_000
MAX_BLOCKS: Final = 50
BLOCKS_CHARS: Final = 10_000
#: The plain `text` that notifications and screen readers get, before escaping; a fifth of what is left at most.
FALLBACK_CHARS: Final = 500

#: Title, text, "+N more" and footer take a block each.
_FRAME_BLOCKS: Final = 4
#: Slack's error codes; anything else in a body is a proxy's, which may quote the address.
_ERROR_CODE: Final = re.compile(r"[a-z_]{2,60}")
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404, 410})


class Config(ChannelConfig, frozen=True):
    """A Slack channel: the whole address is its secret."""

    webhook_url: str


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Say what is wrong with the webhook's address, if anything."""
    prefix = endpoints.slack_webhook_prefix.rstrip("/") + "/"
    if config.webhook_url.startswith(prefix):
        return None
    return f"webhook_url must begin with {prefix}"


def destination(config: Config) -> str:
    """Name the webhook without giving it away."""
    return fingerprint(TYPE, config.webhook_url)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """One message a second for each webhook."""
    return (SendLimit(destination(config), every_s=1.0),)


def render(message: Message) -> RenderedMessage:
    """Write a message as blocks, with a coloured bar for each run of entries alike in severity."""
    fitted = fit(
        message,
        lambda lines: len(write(lines, MRKDWN)),
        BLOCKS_CHARS,
        entry_limit=SECTION_CHARS,
        max_entries=MAX_BLOCKS - _FRAME_BLOCKS,
    )
    fallback = MRKDWN.escape(clip("\n".join(write(lines, PLAIN) for lines in fitted.blocks()), FALLBACK_CHARS))
    bars = [
        _bar(colour, [_section(lines) for _, lines in run])
        for colour, run in itertools.groupby(fitted.entries, key=lambda kept: kept[0].style.colour)
    ]
    tail = [_context(lines) for lines in (fitted.more, fitted.footer) if lines]
    if tail:
        bars.append(_bar(message.style.colour, tail))
    # With blocks beside it, `text` is shown in notifications only, not twice.
    blocks = [_section(lines) for lines in ((fitted.title,), fitted.text) if lines]
    return RenderedMessage({"text": fallback, "blocks": blocks, "attachments": bars})


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Post to the webhook; it has taken the message if it answers `ok`."""
    objection = check(config, endpoints)
    if objection is not None:
        raise PermanentError(objection, channel_broken=True)
    answer = await send_post(session, Post(config.webhook_url, msgspec.json.encode(rendered.body)))
    if answer.ok and answer.body.strip() == b"ok":
        return Delivered(response="ok")
    raise _refuse(answer)


def escape(text: str) -> str:
    """Escape the only three characters that Slack wants escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _refuse(answer: Answer) -> DeliveryError:
    said = answer.body.decode("utf-8", "replace").strip()
    code = f": {said}" if _ERROR_CODE.fullmatch(said) else ""
    reason = f"Slack answered {answer.status}{code}"
    return refusal(answer, reason, channel_broken=answer.status in _CHANNEL_BROKEN)


def _link(label: str, url: str) -> str:
    address = escape(url.replace("|", "%7C").replace(">", "%3E").replace("<", "%3C"))
    return f"<{address}|{label}>"


MRKDWN: Final = Markup(escape=escape, bold=lambda text: f"*{text}*", link=_link)


def _bar(colour: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"color": colour, "blocks": blocks}


def _section(lines: Lines) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": write(lines, MRKDWN)}}


def _context(lines: Lines) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": write(lines, MRKDWN)}]}
