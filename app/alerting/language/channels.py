"""The `channels:` section of rule files: each type of channel has its own fields; secrets come from the environment."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from app.alerting.language.leaves import SECRET, SETTING
from app.alerting.rules.channel_secrets import (
    channel_variable,
    is_secret,
    missing_secrets,
    references,
    resolve_fields,
)
from app.alerting.rules.model import ChannelDefinition, FieldValue
from app.notify.channels import find_channels
from app.yaml_files.kinds import UNFIT, Kind, Schema, mismatch, read_logged
from app.yaml_files.leaves import one_of
from app.yaml_files.mappings import Field, Fields, Given, MapOf
from app.yaml_files.nodes import MappingNode, Node
from app.yaml_files.problems import ProblemLog

#: Takes a channel's type and its settings with all secrets filled in.
#: Returns each problem as (field, message); the field may be None, and the message contains no secret.
ChannelCheck = Callable[[str, Mapping[str, FieldValue]], Iterable[tuple[str | None, str]]]


class ChannelFields(msgspec.Struct, frozen=True):
    """The names of the fields of one type of channel."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()
    #: Fields whose value is a mapping of texts, such as `headers`.
    mappings: frozenset[str] = frozenset()


class ReadChannel(msgspec.Struct, frozen=True):
    """A channel as read from a file: its type, and its fields with their places."""

    type: str
    given: Given
    #: Whether each of its fields could be read, and none is missing.
    is_whole: bool = True

    def define(self, name: str) -> ChannelDefinition:
        """Return the channel's definition under the given name, with references to secrets unresolved."""
        return ChannelDefinition(name, self.type, _field_values(self.given))


class ChannelKind:
    """The kind of a channel: its `type` decides which other fields it has."""

    def __init__(self, channel_fields: Mapping[str, ChannelFields]) -> None:
        self._by_type = {name: _fields_kind(name, fields) for name, fields in channel_fields.items()}
        self._type = one_of(self._by_type)
        self._accepted = 'a mapping, such as {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}'

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return a ReadChannel, or UNFIT when the type is missing or unknown."""
        if not isinstance(node, MappingNode):
            raise mismatch(self._accepted, node)
        type_node = next((value for key, value in node.entries if key.text == "type"), None)
        if type_node is None:
            log.add(node.place, f'"type" is missing: one of {", ".join(self._by_type)}')
            return UNFIT
        type_name = read_logged(self._type, type_node, '"type"', log)
        if type_name is UNFIT:
            return UNFIT
        before = len(log.problems)
        given = self._by_type[type_name].read(node, log)
        _refuse_literal_secrets(given, type_name, log)
        return ReadChannel(type_name, given, len(log.problems) == before)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return a schema that accepts a channel of any of the types."""
        return {"oneOf": [kind.schema(definitions) for kind in self._by_type.values()]}


def check_channel(
    channel: ChannelDefinition, given: Given, environ: Mapping[str, str], check: ChannelCheck | None, log: ProblemLog
) -> None:
    """Log each environment variable that is missing; when none is, log what the channel's own check finds wrong."""
    missing = False
    for field, value in channel.fields.items():
        for name in missing_secrets({field: value}, environ):
            missing = True
            log.add(given.place_of(field), f'"{field}": the environment variable {name} is not set, or empty')
    if check is not None and not missing:
        for wrong_field, message in check(channel.type, resolve_fields(channel.fields, environ)):
            log.add(given.place_of(wrong_field or "type", "type"), message)


def find_channel_fields() -> dict[str, ChannelFields]:
    """Return the fields of every type of channel, derived from the `Config` struct in its module."""
    return {name: channel_fields(channel.Config) for name, channel in find_channels().items()}


def channel_fields(config: type[msgspec.Struct]) -> ChannelFields:
    """Derive the fields of a type of channel from the struct of its settings."""
    fields = msgspec.structs.fields(config)
    return ChannelFields(
        required=frozenset(field.name for field in fields if field.required),
        optional=frozenset(field.name for field in fields if not field.required),
        mappings=frozenset(field.name for field in fields if field.type == dict[str, str]),
    )


def _fields_kind(type_name: str, fields: ChannelFields) -> Fields:
    def field(name: str) -> Field:
        kind: Kind = SECRET if is_secret(name) else SETTING
        if name in fields.mappings:
            kind = MapOf(SETTING, 'a mapping of text, such as {X-Token: "${CHANNEL_TOKEN}"}')
        return Field(kind, _field_doc(type_name, name), required=name in fields.required)

    own = {name: field(name) for name in (*sorted(fields.required), *sorted(fields.optional))}
    type_field = Field(one_of((type_name,)), "the type of channel", required=True)
    return Fields(f"channel-{type_name}", f"{{type: {type_name}}}", {"type": type_field, **own})


def _field_doc(type_name: str, name: str) -> str:
    if is_secret(name):
        return f'a secret of {type_name}, written as "${{NAME}}" and set in the environment'
    return f"a setting of {type_name}"


def _field_values(given: Given) -> dict[str, FieldValue]:
    return {
        name: dict(value.values) if isinstance(value, Given) else value
        for name, value in given.values.items()
        if name != "type"
    }


def _refuse_literal_secrets(given: Given, type_name: str, log: ProblemLog) -> None:
    for name, value in given.values.items():
        if isinstance(value, Given):
            _refuse_literal_secrets(value, type_name, log)
        elif is_secret(name) and not references(value):
            variable = channel_variable(_variable_name(f"{type_name}_{name}"))
            log.add(
                given.places[name],
                f'"{name}" is a secret, and rule files and the database hold none: '
                f'write "${{{variable}}}" and set that variable in the environment',
            )


def _variable_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).upper()
