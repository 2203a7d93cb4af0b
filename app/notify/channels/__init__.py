"""Notification channels: each module of this package is one type of channel and is found automatically."""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Protocol, cast

import aiohttp
import msgspec

from app.errors import InvalidRequestError
from app.local_times import zone_names
from app.notify.message import Message, RenderedMessage
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Endpoints


class Channel(Protocol):
    """The contents of a channel module; each `config` is an instance of its `Config`."""

    #: The `type` in rule files.
    TYPE: str
    #: The class of its settings, a ChannelConfig. `__post_init__` raises ValueError for a bad value; the error's text
    #: begins with the field's name.
    Config: Any

    def check(self, config: Any, endpoints: Endpoints) -> str | None:
        """Return what the endpoints do not allow in the settings, or None; the text begins with the field's name."""

    def destination(self, config: Any) -> str:
        """Return the destination's name without secrets; messages to the same destination are sent one by one."""

    def limits(self, config: Any) -> tuple[SendLimit, ...]:
        """Return how fast the service accepts messages; the first limit's key is the destination."""

    def render(self, message: Message) -> RenderedMessage:
        """Return the message as the service accepts it, within its limits."""

    async def send(
        self, session: aiohttp.ClientSession, config: Any, rendered: RenderedMessage, endpoints: Endpoints
    ) -> Delivered:
        """Send once; raise TransientError, PermanentError or UncertainError."""


class ConfigProblem(msgspec.Struct, frozen=True):
    """One problem of a channel's settings; `field` is None if the problem is not about a single field."""

    field: str | None
    message: str


class ChannelConfigError(InvalidRequestError):
    """A channel's settings cannot be used; `problems` has all problems that were found."""

    code = "channel_config"
    title = "Wrong channel settings"

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def find_channels() -> Mapping[str, Channel]:
    """Import every module of this package and return the modules by TYPE."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (cast("Channel", importlib.import_module(f"{__name__}.{name}")) for name in names)
    return {module.TYPE: module for module in modules}


def parse_config(type_name: str, settings: Mapping[str, Any], endpoints: Endpoints) -> tuple[Channel, ChannelConfig]:
    """Return the channel and its settings, from a rule file's settings with references to secrets resolved.

    Raise ChannelConfigError, whose text holds no secret, if they cannot be used.
    """
    channels = find_channels()
    if type_name not in channels:
        raise ChannelConfigError((ConfigProblem("type", _name_unknown("type", type_name, channels)),))
    channel = channels[type_name]
    problems = _list_problems(channel.Config, settings)
    if problems:
        raise ChannelConfigError(tuple(problems))
    return channel, _build(channel, settings, endpoints)


def _list_problems(config: type[ChannelConfig], values: Mapping[str, Any]) -> list[ConfigProblem]:
    fields = {field.name: field for field in msgspec.structs.fields(config)}
    problems = [ConfigProblem(key, _name_unknown("setting", key, fields)) for key in values if key not in fields]
    for name, field in fields.items():
        if name in values:
            problems += _check_type(name, values[name], field.type)
        elif field.required:
            problems.append(ConfigProblem(name, f"{name} is missing"))
    return problems


def _check_type(name: str, value: Any, expected: Any) -> list[ConfigProblem]:
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        return [ConfigProblem(name, f"{name}: {error}")]
    return []


def _build(channel: Channel, values: Mapping[str, Any], endpoints: Endpoints) -> ChannelConfig:
    try:
        config: ChannelConfig = msgspec.convert(values, channel.Config)
        objection = _zone_fault(config.timezone) or channel.check(config, endpoints)
    except msgspec.ValidationError as error:
        objection = str(error)
    if objection is not None:
        field = objection.split(maxsplit=1)[0]
        raise ChannelConfigError((ConfigProblem(field if field in values else None, objection),))
    return config


def _zone_fault(zone: str | None) -> str | None:
    if zone is None or zone in zone_names():
        return None
    close = difflib.get_close_matches(zone, zone_names(), n=1)
    hint = f"; did you mean {close[0]}?" if close else "; write a name such as Europe/Berlin"
    return f"timezone {zone!r} is not known{hint}"


def _name_unknown(kind: str, given: object, known: Mapping[str, Any]) -> str:
    """Return an error text with the accepted values and the one that was probably meant."""
    close = difflib.get_close_matches(str(given), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{kind} {given!r} is not known; there are: {', '.join(sorted(known))}.{hint}"
