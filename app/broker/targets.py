"""Where one notification goes: a channel's settings checked, and the message written for it."""

from collections.abc import Callable
from typing import Final, cast

import msgspec

from app.broker.format import DEFAULT_PARSE_MODE, BrokerNotification, slack_message, telegram_message
from app.broker.request import ChannelSettings
from app.notify.channels import Channel, slack, telegram
from app.notify.message import RenderedMessage
from app.notify.transport import ChannelConfig, Endpoints, Redacted


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


_Maker = Callable[[ChannelSettings, BrokerNotification, Endpoints], Target]


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
