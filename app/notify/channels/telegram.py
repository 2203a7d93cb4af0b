"""Telegram bots: https://core.telegram.org/bots/api#sendmessage."""

import html
import re
from collections.abc import Iterator
from typing import Any, Final, Self

import aiohttp
import msgspec

from app.notify.message import Message, RenderedMessage
from app.notify.message_lines import PLAIN, Lines, Markup, clip, fit, utf16_units, visible, write
from app.notify.pacing import SendLimit
from app.notify.transport import (
    Answer,
    ChannelConfig,
    Delivered,
    DeliveryError,
    Endpoints,
    Post,
    Redacted,
    fingerprint,
    refusal,
    send_post,
)

TYPE: Final = "telegram"

TEXT_UNITS: Final = 4_096
#: Longest text with markup that the server accepts, in bytes of UTF-8.
SOURCE_BYTES: Final = 32_768
_REASON_UNITS: Final = 200

_TOKEN: Final = re.compile(r"[0-9]+:[A-Za-z0-9_-]+")
_CHANNEL_BROKEN: Final = frozenset({301, 302, 307, 308, 401, 403, 404})
#: Refusals with status 400 that concern the chat, not the message.
_CHAT_BROKEN: Final = re.compile(
    r"chat not found|message thread not found|peer_id_invalid|chat_write_forbidden|rights to send", re.IGNORECASE
)


#: A button is refused, and the message with it, if its address has no public name.
_BUTTON_URL: Final = re.compile(r"https?://[^/:?#]+\.[A-Za-z]{2,}([/:?#]|$)")
_BUTTON_REFUSED: Final = re.compile(r"button_url_invalid|inline keyboard button url", re.IGNORECASE)


class Config(ChannelConfig, frozen=True):
    """A bot and the chat it writes to. The token is part of the address of every request."""

    bot_token: str
    chat_id: int | str
    #: The topic of a forum group.
    message_thread_id: int | str | None = None

    def __post_init__(self) -> None:
        if _TOKEN.fullmatch(self.bot_token) is None:
            raise ValueError("bot_token must be digits, a colon, then letters, digits, _ or -")
        if not str(self.chat_id).strip():
            raise ValueError("chat_id must not be empty")
        if self.message_thread_id is not None and not str(self.message_thread_id).strip().isdecimal():
            raise ValueError("message_thread_id must be the number of a topic")

    def moved(self, moved_to: int) -> Self:
        """Return the settings after Telegram has given the group another id."""
        return msgspec.structs.replace(self, chat_id=moved_to)


class _Parameters(msgspec.Struct, frozen=True):
    migrate_to_chat_id: int | None = None
    retry_after: float | None = None


class _Reply(Redacted, frozen=True):
    ok: bool = False
    description: str = ""
    parameters: _Parameters = _Parameters()
    result: dict[str, Any] | None = None


def check(config: Config, endpoints: Endpoints) -> str | None:
    """Allow any settings, because the address comes from the endpoints."""
    return None


def destination(config: Config) -> str:
    """Return a name for the pair of bot and chat that does not reveal the token."""
    return fingerprint(TYPE, config.bot_token, str(config.chat_id))


def limits(config: Config) -> tuple[SendLimit, ...]:
    """Allow one message a second for each chat, 20 a minute for each group and 30 a second for each bot."""
    chat = destination(config)
    bot = SendLimit(fingerprint("telegram-bot", config.bot_token), every_s=1 / 30, burst=1)
    if str(config.chat_id).startswith(("-", "@")):
        # 5 at once and one every 4 seconds: at most 20 in any minute.
        return SendLimit(chat, every_s=1.0), SendLimit(f"{chat}:minute", every_s=4.0, burst=5), bot
    return SendLimit(chat, every_s=1.0), bot


def render(message: Message) -> RenderedMessage:
    """Return the message as HTML, with plain text as the fallback if Telegram refuses the HTML."""
    options: dict[str, Any] = {"link_preview_options": {"is_disabled": True}, "disable_notification": message.silent}
    if message.reply_to is not None:
        reply = {"message_id": int(message.reply_to), "allow_sending_without_reply": True}
        options["reply_parameters"] = reply
    if message.page is not None and _BUTTON_URL.match(message.page):
        options["reply_markup"] = {"inline_keyboard": [[{"text": "Open", "url": message.page}]]}
    marked_up = fit(message, _cost, TEXT_UNITS)
    plain = fit(message, lambda lines: utf16_units(write(lines, PLAIN)) + 2, TEXT_UNITS)
    return RenderedMessage(
        {"text": _join(marked_up.blocks(), HTML), "parse_mode": "HTML", **options},
        {"text": _join(plain.blocks(), PLAIN), **options},
    )


async def send(
    session: aiohttp.ClientSession, config: Config, rendered: RenderedMessage, endpoints: Endpoints
) -> Delivered:
    """Send to the chat; raise TransientError, PermanentError or UncertainError.

    Repeat once with the chat's new id if it has moved, without the button if its address is refused, and once with the
    fallback if the markup is refused.
    """
    body, fallback = rendered.body, rendered.fallback
    moved_to: int | None = None
    while True:
        topic = {} if config.message_thread_id is None else {"message_thread_id": int(config.message_thread_id)}
        post = _address(config, endpoints, {**body, **topic, "chat_id": moved_to or config.chat_id})
        answer, reply = await _exchange(session, post, moved_to)
        if answer.ok and reply.ok:
            return Delivered(_message_ref(reply), msgspec.json.decode(answer.body), moved_to)
        if moved_to is None and reply.parameters.migrate_to_chat_id is not None:
            moved_to = reply.parameters.migrate_to_chat_id
        elif "reply_markup" in body and _BUTTON_REFUSED.search(reply.description):
            body = {name: value for name, value in body.items() if name != "reply_markup"}
        elif fallback is not None and "can't parse entities" in reply.description:
            body, fallback = fallback, None
        else:
            raise _refuse(answer, reply, config, moved_to)


def escape(text: str) -> str:
    """Escape what Telegram's HTML reserves; quotes need escaping only inside a tag."""
    return html.escape(text, quote=False)


HTML: Final = Markup(
    escape=escape,
    bold=lambda text: f"<b>{text}</b>",
    link=lambda label, url: f'<a href="{html.escape(url)}">{label}</a>',
)


def _cost(lines: Lines) -> int:
    """Return the cost of a block in UTF-16 units of TEXT_UNITS, so that both limits are kept.

    It is the greater of the visible text's length and the markup's bytes, scaled from SOURCE_BYTES to TEXT_UNITS.
    """
    source_bytes = len(write(lines, HTML).encode("utf-8", "replace"))
    return max(utf16_units(visible(lines)), -(-source_bytes * TEXT_UNITS // SOURCE_BYTES)) + len("\n\n")


def _join(blocks: Iterator[Lines], markup: Markup) -> str:
    return "\n\n".join(write(lines, markup) for lines in blocks)


def _address(config: Config, endpoints: Endpoints, body: dict[str, Any]) -> Post:
    url = f"{endpoints.telegram_api_base.rstrip('/')}/bot{config.bot_token}/sendMessage"
    return Post(url, msgspec.json.encode(body))


async def _exchange(session: aiohttp.ClientSession, post: Post, moved_to: int | None) -> tuple[Answer, _Reply]:
    try:
        answer = await send_post(session, post)
    except DeliveryError as error:
        error.moved_to = moved_to
        raise
    try:
        return answer, msgspec.json.decode(answer.body, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The answer is that of an HTTP proxy, not Telegram's. It may quote the secret address, so it is not passed on.
        return answer, _Reply()


def _message_ref(reply: _Reply) -> str | None:
    message_id = (reply.result or {}).get("message_id")
    return None if message_id is None else str(message_id)


def _refuse(answer: Answer, reply: _Reply, config: Config, moved_to: int | None) -> DeliveryError:
    description = clip(reply.description.replace(config.bot_token, "…"), _REASON_UNITS)
    error = refusal(
        answer,
        f"Telegram answered {answer.status}: {description}".removesuffix(": "),
        channel_broken=answer.status in _CHANNEL_BROKEN or _CHAT_BROKEN.search(description) is not None,
        retry_after_s=reply.parameters.retry_after,
    )
    error.moved_to = moved_to
    return error
