"""A send request as clients of the replaced broker write it: how channels are merged, and which fault is told first."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.errors import InvalidRequestError
from app.model import LevelName
from app.notify.message import LEVELS
from app.notify.transport import Redacted

TITLE_CHARS: Final = 200
MESSAGE_CHARS: Final = 2_000
SOURCE_CHARS: Final = 100

ChannelSettings = dict[str, Any]

_REQUIRED: Final = ("title", "message", "level")
#: What an error shows of a wrong level.
_LEVEL_SHOWN_CHARS: Final = 60
#: By channel and setting: the request header, and the field at the top of the body.
_SOURCES: Final = {
    "slack": {"webhook_url": ("slack-webhook-url", "slack_webhook_url")},
    "telegram": {
        "bot_token": ("telegram-bot-token", "telegram_bot_token"),
        "chat_id": ("telegram-chat-id", "telegram_chat_id"),
    },
}


class SendRequest(Redacted, frozen=True, kw_only=True):
    """What a client wants sent; `channels` has the settings of each complete channel, not yet checked."""

    title: str
    message: str
    level: LevelName
    source: str | None
    metadata: dict[str, Any] | None
    channels: dict[str, ChannelSettings]


def parse_request(body: bytes, headers: Mapping[str, str]) -> SendRequest:
    """Read a request; raises InvalidRequestError.

    Clients know the order of faults: JSON, channels, a missing field, limits, level. `headers` finds names in
    lower case.
    """
    fields = _decode(body)
    channels = _merge_channels(fields, headers)
    if not channels:
        raise InvalidRequestError("At least one notification channel must be configured with valid parameters")
    for name in _REQUIRED:
        if fields.get(name) is None:
            raise InvalidRequestError(f"Missing required field: {name}")
    source = fields.get("source")
    return SendRequest(
        title=_text("title", fields["title"], TITLE_CHARS),
        message=_text("message", fields["message"], MESSAGE_CHARS),
        source=None if source is None else _text("source", source, SOURCE_CHARS),
        metadata=_metadata(fields.get("metadata")),
        level=_level(fields["level"]),
        channels=channels,
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(body) if body else None
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"Invalid request data: the body cannot be read as JSON: {error}") from None
    if not fields:
        raise InvalidRequestError("Request body is required")
    if not isinstance(fields, dict):
        raise InvalidRequestError("Invalid request data: the body must be a JSON object")
    return fields


def _merge_channels(fields: dict[str, Any], headers: Mapping[str, str]) -> dict[str, ChannelSettings]:
    """Merge setting by setting: `channels` goes before the header, the header before the top of the body.

    A channel that then lacks a required setting is left out, and so is one that nobody knows.
    """
    given = fields.get("channels") or {}
    if not isinstance(given, dict):
        raise InvalidRequestError("Invalid request data: channels must be an object")
    merged: dict[str, ChannelSettings] = {}
    for channel, required in _SOURCES.items():
        own = given.get(channel) or {}
        if not isinstance(own, dict):
            raise InvalidRequestError(f"Invalid request data: channels.{channel} must be an object")
        elsewhere = {name: headers.get(header) or fields.get(top) for name, (header, top) in required.items()}
        settings = {**elsewhere, **own}
        if all(settings[name] for name in required):
            merged[channel] = settings
    return merged


def _text(name: str, value: object, limit_chars: int) -> str:
    """Take a text, or a number as the replaced broker wrote it."""
    if not isinstance(value, str | int | float):
        raise InvalidRequestError(f"Invalid request data: {name} must be a string")
    text = str(value)
    if len(text) > limit_chars:
        raise InvalidRequestError(
            f"Invalid request data: {name} has {len(text)} characters; it may have {limit_chars} at most"
        )
    return text


def _metadata(value: object) -> dict[str, Any] | None:
    """Take an object; what is empty is none, as PHP writes an empty object as a list."""
    if not value:
        return None
    if not isinstance(value, dict):
        raise InvalidRequestError("Invalid request data: metadata must be an object")
    return value


def _level(level: object) -> LevelName:
    name = str(level).lower()
    if name not in LEVELS:
        raise InvalidRequestError(f"Invalid log level: {str(level)[:_LEVEL_SHOWN_CHARS]}")
    return name
