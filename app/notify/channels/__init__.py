"""One module a notification channel; a module put here is found by itself."""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Protocol, cast

import aiohttp
import msgspec

from app.errors import InvalidRequestError
from app.notify.message import Message, RenderedMessage
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Endpoints


class Channel(Protocol):
    """What a channel module defines; `config` is an instance of its `Config`."""

    #: The `type` that rule files name it by.
    TYPE: str
    #: Its settings, a ChannelConfig; `__post_init__` raises ValueError for a bad value, its field's name first.
    Config: Any

    def check(self, config: Any, endpoints: Endpoints) -> str | None:
        """Say what about the settings the endpoints do not allow, beginning with the field's name."""

    def destination(self, config: Any) -> str:
        """Name where messages go, without a secret: messages with the same name are sent one by one."""

    def limits(self, config: Any) -> tuple[SendLimit, ...]:
        """Say how fast the service takes messages; the first limit's key is the destination."""

    def render(self, message: Message) -> RenderedMessage:
        """Write a message as the service takes it, within its limits."""

    async def send(
        self, session: aiohttp.ClientSession, config: Any, rendered: RenderedMessage, endpoints: Endpoints
    ) -> Delivered:
        """Send once; raises TransientError, PermanentError or UncertainError."""


class ConfigProblem(msgspec.Struct, frozen=True):
    """One thing wrong with a channel's settings; `field` is None when it is about none in particular."""

    field: str | None
    message: str


class ChannelConfigError(InvalidRequestError):
    """A channel's settings cannot be used; `problems` has all that was found."""

    code = "channel_config"
    title = "Wrong channel settings"

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def find_channels() -> Mapping[str, Channel]:
    """Import every module of this package, by TYPE."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (cast("Channel", importlib.import_module(f"{__name__}.{name}")) for name in names)
    return {module.TYPE: module for module in modules}


def parse_config(type_name: str, settings: Mapping[str, Any], endpoints: Endpoints) -> tuple[Channel, ChannelConfig]:
    """Check settings as a rule file has them, references resolved; what is said holds no secret.

    Raises ChannelConfigError.
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
        objection = channel.check(config, endpoints)
    except msgspec.ValidationError as error:
        objection = str(error)
    if objection is not None:
        field = objection.split(maxsplit=1)[0]
        raise ChannelConfigError((ConfigProblem(field if field in values else None, objection),))
    return config


def _name_unknown(kind: str, given: object, known: Mapping[str, Any]) -> str:
    """Name the accepted values, and the one that was likely meant."""
    close = difflib.get_close_matches(str(given), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{kind} {given!r} is not known; there are: {', '.join(sorted(known))}.{hint}"
