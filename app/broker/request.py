"""Send requests as clients of the replaced broker write them, and the targets that they name.

The places of a channel's settings and the order in which errors are reported are those of the replaced broker.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from app.broker.format import DEFAULT_PARSE_MODE, BrokerNotification, slack_message, telegram_message
from app.errors import InvalidRequestError
from app.model import LevelName
from app.notify.channels import Channel, slack, telegram
from app.notify.message import LEVELS, RenderedMessage
from app.notify.transport import ChannelConfig, Endpoints, Redacted

TITLE_CHARS: Final = 200
MESSAGE_CHARS: Final = 2_000
SOURCE_CHARS: Final = 100

ChannelSettings = dict[str, Any]

_REQUIRED: Final = ("title", "message", "level")
#: A wrong level is cut to this length in the error.
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
    """A client's request. `channels` has the settings of each complete channel, which are not checked yet."""

    title: str
    message: str
    level: LevelName
    source: str | None
    metadata: dict[str, Any] | None
    channels: dict[str, ChannelSettings]


class Target(Redacted, frozen=True):
    """A message ready to be sent to one channel; `service` and `destination` hold no secret."""

    service: str
    channel: Channel
    config: ChannelConfig
    rendered: RenderedMessage
    destination: str


class TargetError(ValueError):
    """A channel's settings cannot be used; the message holds no secret."""


class _SlackSettings(Redacted, frozen=True):
    webhook_url: str
    channel: str | None = None
    username: str | None = None


class _TelegramSettings(Redacted, frozen=True):
    bot_token: str
    chat_id: int | str
    parse_mode: str | None = DEFAULT_PARSE_MODE


def parse_request(body: bytes, headers: Mapping[str, str]) -> SendRequest:
    """Parse a request; the names in `headers` are in lower case.

    Raise InvalidRequestError for the first error in the replaced broker's order: JSON, channels, a missing field,
    limits, level.
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


def make_target(
    channel_name: str, settings: ChannelSettings, notification: BrokerNotification, endpoints: Endpoints
) -> Target:
    """Check the settings and write the message; raise TargetError if a setting cannot be used."""
    try:
        return _TARGET_MAKERS[channel_name](settings, notification, endpoints)
    except ValueError as error:
        raise TargetError(f"Invalid {channel_name} configuration: {error}") from None
    except RecursionError:
        raise TargetError("metadata are nested too deeply to be shown") from None


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
    """Return the settings of each complete channel, merged one by one.

    A value in `channels` takes precedence over the header, the header over the field at the top of the body. Channels
    that lack a required setting, and unknown channels, are left out.
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
    """Return a text, or a number as text, because the replaced broker accepted both; raise InvalidRequestError."""
    if not isinstance(value, str | int | float):
        raise InvalidRequestError(f"Invalid request data: {name} must be a string")
    text = str(value)
    if len(text) > limit_chars:
        raise InvalidRequestError(
            f"Invalid request data: {name} has {len(text)} characters; it may have {limit_chars} at most"
        )
    return text


def _metadata(value: object) -> dict[str, Any] | None:
    """Return the object, or None for any empty value, because PHP writes an empty object as a list."""
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


def _slack_target(settings: ChannelSettings, notification: BrokerNotification, endpoints: Endpoints) -> Target:
    read = msgspec.convert(settings, _SlackSettings)
    config = slack.Config(webhook_url=read.webhook_url)
    objection = slack.check(config, endpoints)
    if objection is not None:
        raise ValueError(objection)
    rendered = slack_message(notification, read.channel, read.username)
    return Target("Slack", cast("Channel", slack), config, rendered, slack.destination(config))


def _telegram_target(settings: ChannelSettings, notification: BrokerNotification, endpoints: Endpoints) -> Target:
    read = msgspec.convert(settings, _TelegramSettings)
    config = telegram.Config(bot_token=read.bot_token, chat_id=read.chat_id)
    rendered = telegram_message(notification, read.parse_mode)
    return Target("Telegram", cast("Channel", telegram), config, rendered, telegram.destination(config))


_TARGET_MAKERS: Final[dict[str, Callable[[ChannelSettings, BrokerNotification, Endpoints], Target]]] = {
    "slack": _slack_target,
    "telegram": _telegram_target,
}
