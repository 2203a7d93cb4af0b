"""Slack incoming webhooks: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks."""

import itertools
import re
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.message_lines import PLAIN, Fitted, Lines, Markup, clip, fit, write
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

# Documented limits are 3,000 characters for a section and 50 blocks. In practice Slack refuses a message from about
# 13,000 characters in all.
SECTION_CHARS: Final = 3_000
MAX_BLOCKS: Final = 50
BLOCKS_CHARS: Final = 10_000
#: Length, before escaping, of the plain `text` for notifications and screen readers. Escaped it has at most 2,500.
FALLBACK_CHARS: Final = 500

#: One block each for title, text, "+N more" and footer.
_FRAME_BLOCKS: Final = 4
#: The form of Slack's error codes. Any other body comes from a proxy, which may quote the secret address.
_ERROR_CODE: Final = re.compile(r"[a-z_]{2,60}")
#: Slack and Mattermost answer `ok`, Rocket.Chat {"success": true}.
_OK: Final = re.compile(rb'ok|\{"success":\s*true\}')
_SLACK_HOSTS: Final = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404, 410})


class Config(ChannelConfig, frozen=True):
    """An incoming webhook of a Slack channel, or of what understands Slack's; the whole address is secret."""

    webhook_url: str
    #: What the address must begin with in place of SLACK_WEBHOOK_PREFIX: for GovSlack, Mattermost or Rocket.Chat.
    webhook_prefix: str | None = None

    def __post_init__(self) -> None:
        if self.webhook_prefix is not None and not self.webhook_prefix.startswith(("https://", "http://")):
            raise ValueError("webhook_prefix must be an http:// or https:// address")


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Return what is wrong with the webhook's address, or None."""
    prefix = (config.webhook_prefix or endpoints.slack_webhook_prefix).rstrip("/") + "/"
    if config.webhook_url.startswith(prefix):
        return None
    return f"webhook_url must begin with {prefix}"


def destination(config: Config) -> str:
    """Return a name for the webhook that does not reveal its address."""
    return fingerprint(TYPE, config.webhook_url)


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow one message a second for each webhook."""
    return (SendLimit(destination(config), every_s=1.0),)


def render(message: Message) -> RenderedMessage:
    """Return the message as blocks, with one coloured bar for consecutive entries of the same level."""
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
    # When there are blocks, Slack shows `text` in notifications only.
    blocks = [_section(lines) for lines in ((fitted.title,), fitted.text) if lines]
    return RenderedMessage({"text": fallback, "blocks": blocks, "attachments": bars}, _without_blocks(fitted, message))


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Post to the webhook; the answer `ok` means that Slack has accepted the message."""
    objection = check(config, endpoints)
    if objection is not None:
        raise PermanentError(objection, channel_broken=True)
    body = rendered.body if _knows_blocks(config) or rendered.fallback is None else rendered.fallback
    answer = await send_post(session, Post(config.webhook_url, msgspec.json.encode(body)))
    if answer.ok and _OK.fullmatch(answer.body.strip()):
        return Delivered(response="ok")
    raise _refuse(answer)


def escape(text: str) -> str:
    """Escape the three characters that Slack's markup reserves."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _knows_blocks(config: Config) -> bool:
    """Return whether the service is Slack itself: those that only take its webhooks do not show Block Kit."""
    host = (urlsplit(config.webhook_prefix).hostname or "") if config.webhook_prefix else ""
    return not host or host in _SLACK_HOSTS


def _without_blocks(fitted: Fitted, message: Message) -> dict[str, Any]:
    """Return the message as text and coloured attachments, for services that do not know Block Kit."""
    head = [lines for lines in ((fitted.title,), fitted.text) if lines]
    bars = [
        {"color": entry.style.colour, "text": write(lines, MRKDWN), "fallback": write(lines, PLAIN)}
        for entry, lines in fitted.entries
    ]
    tail = [lines for lines in (fitted.more, fitted.footer) if lines]
    if tail:
        text = "\n".join(write(lines, MRKDWN) for lines in tail)
        bars.append({"color": message.style.colour, "text": text, "fallback": text})
    return {"text": "\n".join(write(lines, MRKDWN) for lines in head), "attachments": bars}


def _refuse(answer: Answer) -> DeliveryError:
    text = answer.body.decode("utf-8", "replace").strip()
    code = f": {text}" if _ERROR_CODE.fullmatch(text) else ""
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
