"""Slack and Telegram messages in the format of the replaced broker, with its escaping errors corrected."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from app.model import LevelName
from app.notify.channels import slack, telegram
from app.notify.message import LEVELS, RenderedMessage
from app.notify.message_lines import NAME_UNITS, clip, utf16_units

DEFAULT_USERNAME: Final = "NotificationBot"
DEFAULT_PARSE_MODE: Final = "Markdown"

#: Slack takes about 13,000 characters in all; title, message and source need less than the rest, even escaped.
SLACK_METADATA_CHARS: Final = 6_000
#: A metadata value is cut instead of dropped if at least this much of it can be shown.
_MIN_VALUE_UNITS: Final = 40
#: Matches legacy Markdown in which every entity is closed, as Telegram parses it: from left to right, without
#: backtracking. The other modes need no such check: an entity left open in `message` cannot be closed by the escaped
#: frame.
_CLOSED_MARKDOWN: Final = re.compile(
    r"""(?>
        \\[_*`\[]                                # escaped
        | [^_*`\[]                                # no markup
        | ```.*?``` | `(?!``)[^`]*` | _[^_]*_ | \*[^*]*\*
        | \[[^\]]*\] (?: \([^)]*\) | (?!\() )    # a link; an address left open would extend to the end of the text
    )*+""",
    re.DOTALL | re.VERBOSE,
)
_MORE_UNITS: Final = len("\n• +1000000 more")


class BrokerNotification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as a client sent it. `at` is aware UTC; the values of `metadata` are any JSON."""

    id: str
    title: str
    message: str
    level: LevelName
    at: datetime
    source: str | None = None
    metadata: dict[str, Any] | None = None


class Dialect(NamedTuple):
    """Functions that write literal text in one `parse_mode`."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    code: Callable[[str], str]
    #: Whether no entity that a text opens can be closed by the text after it.
    is_closed: Callable[[str], bool] = lambda text: True


class _Metadata(NamedTuple):
    """The metadata to show, and the number of omitted keys."""

    pairs: list[tuple[str, str]]
    omitted: int


def slack_message(
    notification: BrokerNotification, channel: str | None = None, username: str | None = None
) -> RenderedMessage:
    """Return the Slack payload: one attachment, in which everything but `message` is escaped."""
    emoji, colour, _ = msgspec.structs.astuple(LEVELS[notification.level])
    attachment = {
        "color": colour,
        "title": f"{emoji} {slack.escape(notification.title)}",
        "text": notification.message,
        "fields": _slack_fields(notification),
        "footer": f"Notification ID: {notification.id}",
        "ts": int(notification.at.timestamp()),
    }
    payload: dict[str, Any] = {"attachments": [attachment], "username": username or DEFAULT_USERNAME}
    if channel:
        payload["channel"] = channel
    return RenderedMessage(payload)


def telegram_message(notification: BrokerNotification, parse_mode: str | None = DEFAULT_PARSE_MODE) -> RenderedMessage:
    """Return the Telegram text, in which everything but `message` is escaped; in the fallback all is escaped.

    If the text is too long for Telegram, first metadata are cut, then `message`. A message that was cut, or that
    leaves an entity open, is escaped in the first text already, because that entity could include the frame without
    an error; the fallback is plain text then.
    """
    message, metadata = _fit(notification)
    plain = {"text": _compose(notification, _PLAIN, message, metadata)}
    if not parse_mode:
        return RenderedMessage(plain)
    dialect = _DIALECTS.get(parse_mode.lower())
    if dialect is None:
        return RenderedMessage({**plain, "parse_mode": parse_mode})
    escaped_message = dialect.escape(message)
    escaped = {"text": _compose(notification, dialect, escaped_message, metadata), "parse_mode": parse_mode}
    if escaped_message == message or message != notification.message or not dialect.is_closed(message):
        return RenderedMessage(escaped, plain)
    return RenderedMessage(
        {"text": _compose(notification, dialect, message, metadata), "parse_mode": parse_mode}, escaped
    )


def _slack_fields(notification: BrokerNotification) -> list[dict[str, Any]]:
    fields = [
        {"title": "Level", "value": notification.level.upper(), "short": True},
        {"title": "Timestamp", "value": _timestamp(notification), "short": True},
    ]
    if notification.source:
        fields.append({"title": "Source", "value": slack.escape(notification.source), "short": True})
    if notification.metadata:
        fields.append({"title": "Metadata", "value": _slack_metadata(notification.metadata), "short": False})
    return fields


def _slack_metadata(metadata: dict[str, Any]) -> str:
    fitted = _fit_pairs(metadata, SLACK_METADATA_CHARS, lambda key, value: len(_slack_line(key, value)) + 1)
    more = [f"• +{fitted.omitted} more"] if fitted.omitted else []
    return "\n".join([_slack_line(key, value) for key, value in fitted.pairs] + more)


def _slack_line(key: str, value: str) -> str:
    return f"• *{slack.escape(key)}*: {slack.escape(value)}"


def _compose(notification: BrokerNotification, dialect: Dialect, marked_message: str, metadata: _Metadata) -> str:
    """Return the whole Telegram text; everything but `marked_message` is escaped here."""
    lines = [
        f"{LEVELS[notification.level].emoji} {dialect.bold(notification.title)}",
        "",
        f"📝 {marked_message}",
        "",
        f"🏷️ {dialect.bold('Level:')} {dialect.code(notification.level.upper())}",
        f"🕐 {dialect.bold('Time:')} {dialect.code(_timestamp(notification))}",
    ]
    if notification.source:
        lines.append(f"🔍 {dialect.bold('Source:')} {dialect.code(notification.source)}")
    if metadata.pairs or metadata.omitted:
        lines += ["", f"📊 {dialect.bold('Metadata:')}"]
        lines += [f"• {dialect.bold(f'{key}:')} {dialect.code(value)}" for key, value in metadata.pairs]
    if metadata.omitted:
        lines.append(f"• {dialect.escape(f'+{metadata.omitted} more')}")
    return "\n".join([*lines, "", f"🆔 {dialect.code(notification.id)}"])


def _fit(notification: BrokerNotification) -> tuple[str, _Metadata]:
    """Return the message and the metadata, cut to the room that Telegram leaves; usually nothing is cut."""
    everything = _Metadata([(key, _text(value)) for key, value in (notification.metadata or {}).items()], 0)
    if utf16_units(_compose(notification, _PLAIN, notification.message, everything)) <= telegram.TEXT_UNITS:
        return notification.message, everything
    message = _fit_message(notification)
    return message, _fit_telegram_metadata(notification, message)


def _fit_message(notification: BrokerNotification) -> str:
    """Return the message, cut if the text does not fit without metadata; its markup counts as visible text."""
    excess = _units_without_metadata(notification, notification.message) - telegram.TEXT_UNITS
    if excess <= 0:
        return notification.message
    return clip(notification.message, utf16_units(notification.message) - excess)


def _fit_telegram_metadata(notification: BrokerNotification, message: str) -> _Metadata:
    left = telegram.TEXT_UNITS - _units_without_metadata(notification, message) - _METADATA_HEAD_UNITS
    if left < 0 or not notification.metadata:
        return _Metadata([], 0)
    return _fit_pairs(notification.metadata, left, lambda key, value: utf16_units(f"\n• {key}: {value}"))


def _units_without_metadata(notification: BrokerNotification, message: str) -> int:
    return utf16_units(_compose(notification, _PLAIN, message, _Metadata([], 0)))


def _fit_pairs(metadata: dict[str, Any], budget: int, cost: Callable[[str, str], int]) -> _Metadata:
    """Return the first pairs that fit into `budget` together with "+N more"; the last one may be cut."""
    left = budget - _MORE_UNITS
    pairs: list[tuple[str, str]] = []
    for key, value in metadata.items():
        pair = _shorten_pair(key, _text(value), left, cost)
        if pair is None:
            break
        pairs.append(pair)
        left -= cost(*pair)
    return _Metadata(pairs, len(metadata) - len(pairs))


def _shorten_pair(key: str, value: str, left: int, cost: Callable[[str, str], int]) -> tuple[str, str] | None:
    """Return the pair, cut to what is left; None if less than _MIN_VALUE_UNITS of the value would be shown."""
    if cost(key, value) <= left:
        return key, value
    key = clip(key, NAME_UNITS)
    units = left - cost(key, "")
    while units >= _MIN_VALUE_UNITS:
        shortened = clip(value, units)
        if cost(key, shortened) <= left:
            return key, shortened
        # Escaping makes the text longer, so less of it fits.
        units //= 2
    return None


def _text(value: Any) -> str:
    """Return a metadata value as the replaced broker wrote it: text unchanged, anything else by Python's `str`."""
    return str(value)


def _timestamp(notification: BrokerNotification) -> str:
    return notification.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _escape_markdown(text: str) -> str:
    return re.sub(r"([_*`\[])", r"\\\1", text)


def _is_closed_markdown(text: str) -> bool:
    return _CLOSED_MARKDOWN.fullmatch(text) is not None


def _wrap_markdown(mark: str) -> Callable[[str], str]:
    """Return a function that wraps a text in an entity of legacy Markdown.

    Legacy Markdown has no escapes within an entity, so the entity is closed before each `mark` in the text and opened
    again after it.
    """

    def wrap(text: str) -> str:
        pieces = [f"{mark}{piece}{mark}" if piece else "" for piece in text.split(mark)]
        return f"\\{mark}".join(pieces)

    return wrap


def _escape_markdown_v2(text: str) -> str:
    return re.sub(r"([_*\[\]()~`>#+\-=|{}.!\\])", r"\\\1", text)


def _code_markdown_v2(text: str) -> str:
    return "`{}`".format(re.sub(r"([`\\])", r"\\\1", text))


_PLAIN: Final = Dialect(escape=str, bold=str, code=str)
_DIALECTS: Final = {
    "markdown": Dialect(_escape_markdown, _wrap_markdown("*"), _wrap_markdown("`"), _is_closed_markdown),
    "markdownv2": Dialect(_escape_markdown_v2, lambda text: f"*{_escape_markdown_v2(text)}*", _code_markdown_v2),
    "html": Dialect(
        telegram.escape,
        lambda text: f"<b>{telegram.escape(text)}</b>",
        lambda text: f"<code>{telegram.escape(text)}</code>",
    ),
}
_METADATA_HEAD_UNITS: Final = utf16_units("\n\n📊 Metadata:")
