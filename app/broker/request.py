"""A send request as the replaced broker's clients write it, and the targets that it names.

Which channel a setting belongs to, and which of several faults is reported first, are the replaced broker's."""

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


class Target(Redacted, frozen=True):
    """A message ready to be sent; `service` and `destination` are fit to be shown."""

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


def make_target(
    channel_name: str, settings: ChannelSettings, notification: BrokerNotification, endpoints: Endpoints
) -> Target:
    """Check the settings and write the message; raises TargetError."""
    try:
        return _MAKERS[channel_name](settings, notification, endpoints)
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


_Maker = Callable[[ChannelSettings, BrokerNotification, Endpoints], Target]


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


_MAKERS: Final[dict[str, _Maker]] = {"slack": _slack_target, "telegram": _telegram_target}
