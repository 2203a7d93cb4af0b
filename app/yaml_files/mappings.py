"""Mappings in files: with fixed keys, with names that people choose, or with keys that depend on a word among them."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.hints import did_you_mean, listed, shown
from app.yaml_files.kinds import UNFIT, Kind, Schema, mismatch, read_logged
from app.yaml_files.nodes import MappingNode, Node, ScalarNode
from app.yaml_files.problems import Place, ProblemLog


class Field(msgspec.Struct, frozen=True):
    """One key of a mapping: its kind, and a description of its meaning and of its default."""

    kind: Kind
    doc: str
    required: bool = False


class Given(msgspec.Struct, frozen=True):
    """A mapping as read from a file: the places of its known keys, and those of their values that are accepted."""

    place: Place
    places: dict[str, Place] = msgspec.field(default_factory=dict)
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    #: Keys that are not known; one of them may be a misspelling of a key that is missing.
    unknown: list[str] = msgspec.field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a key's value, or the default when the key is left out or its value is not accepted."""
        return self.values.get(key, default)

    def lacks(self, *keys: str) -> bool:
        """Return whether none of the keys is present, not even misspelt."""
        misspelt = any(did_you_mean(name, keys) for name in self.unknown)
        return not misspelt and not any(key in self.places for key in keys)

    def place_of(self, *keys: str) -> Place:
        """Return the place of the first of the keys that is present, else the place of the mapping itself."""
        return next((self.places[key] for key in keys if key in self.places), self.place)


class MapOf:
    """A mapping whose keys are names of the user's choice."""

    def __init__(self, item: Kind, accepted: str, *, name_pattern: str = "^.+$", name_rule: str = "") -> None:
        self._item = item
        self._accepted = accepted
        self._name_pattern = name_pattern
        self._name_rule = name_rule or "must not be empty"

    def read(self, node: Node, log: ProblemLog) -> Given:
        """Return the entries whose key and value are accepted."""
        if not isinstance(node, MappingNode):
            raise mismatch(self._accepted, node)
        given = Given(node.place)
        for name, (key, value) in distinct_entries(node, log).items():
            if re.fullmatch(self._name_pattern, name):
                put_logged(given, key, value, self._item, log)
            else:
                log.add(key.place, f"the name {shown(name)} {self._name_rule}")
        return given

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return the schema of the mapping."""
        return {
            "type": "object",
            "propertyNames": {"pattern": self._name_pattern},
            "additionalProperties": self._item.schema(definitions),
        }


class Fields:
    """A mapping with a fixed set of keys; an unknown key and a missing required key are problems."""

    def __init__(self, name: str, example: str, fields: Mapping[str, Field], *, also: Schema | None = None) -> None:
        self.fields = fields
        self.name = name
        self._accepted = f"a mapping, such as {example}"
        self._also = also or {}

    def read(self, node: Node, log: ProblemLog) -> Given:
        """Return the known keys and those of their values that are accepted."""
        if not isinstance(node, MappingNode):
            raise mismatch(self._accepted, node)
        given = Given(node.place)
        for name, (key, value) in distinct_entries(node, log).items():
            if name in self.fields:
                put_logged(given, key, value, self.fields[name].kind, log)
            else:
                given.unknown.append(name)
                log.add(key.place, _unknown_key(name, list(self.fields)))
        for name, field in self.fields.items():
            if field.required and name not in given.places:
                log.add(node.place, f'"{name}" is missing: {field.doc}')
        return given

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return a reference to the mapping's schema, which is added to `definitions` on first use."""
        if self.name not in definitions:
            definitions[self.name] = {}
            definitions[self.name] = self._definition(definitions)
        return {"$ref": f"#/definitions/{self.name}"}

    def _definition(self, definitions: dict[str, Schema]) -> Schema:
        required = [name for name, field in self.fields.items() if field.required]
        return {
            "type": "object",
            "properties": {
                name: {"description": field.doc, **field.kind.schema(definitions)}
                for name, field in self.fields.items()
            },
            "additionalProperties": False,
            **({"required": required} if required else {}),
            **self._also,
        }


class ScalarOr:
    """A single value, or a mapping in its place."""

    def __init__(self, scalar: Kind, mapping: Kind) -> None:
        self._scalar = scalar
        self._mapping = mapping

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return what the kind that fits the node makes of it."""
        return (self._mapping if isinstance(node, MappingNode) else self._scalar).read(node, log)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return a schema that accepts both."""
        return {"anyOf": [self._scalar.schema(definitions), self._mapping.schema(definitions)]}


class ByKey:
    """A mapping whose other keys depend on the word under one of its keys; left out, it is the first word."""

    def __init__(self, key: str, kinds: Mapping[str, Fields]) -> None:
        self._key = key
        self._kinds = kinds

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return what the mapping of that word makes of the node."""
        words = list(self._kinds)
        if not isinstance(node, MappingNode):
            return self._kinds[words[0]].read(node, log)
        given = next((value for key, value in node.entries if key.text == self._key), None)
        if given is None:
            return self._kinds[words[0]].read(node, log)
        if isinstance(given, ScalarNode) and given.text in self._kinds:
            return self._kinds[given.text].read(node, log)
        # Which other keys it has is not known.
        read_logged(self._kinds[words[0]].fields[self._key].kind, given, shown(self._key), log)
        log.lacks_entry = True
        return UNFIT

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return a schema that accepts any of the mappings."""
        return {"oneOf": [kind.schema(definitions) for kind in self._kinds.values()]}


#: Keys that people write in place of others, of which the first that is accepted is meant.
_OTHER_KEYS: dict[str, tuple[str, ...]] = {
    "name": ("id",),
    "sensor": ("id",),
    "to": ("notify",),
    "channels": ("notify", "to"),
    "for": ("after",),
    "interval": ("remind_every",),
    "duration": ("for",),
    "greater_than": ("above",),
    "less_than": ("below",),
    "gt": ("above",),
    "lt": ("below",),
    "max": ("above",),
    "min": ("below",),
    "hysteresis": ("clear",),
    "severity": ("level", "levels"),
    "text": ("message",),
    "condition": ("levels",),
}


def put_logged(given: Given, key: ScalarNode, value: Node, kind: Kind, log: ProblemLog) -> None:
    """Record a key's place in `given`, and its value if the kind accepts it."""
    given.places[key.text] = key.place
    accepted = read_logged(kind, value, shown(key.text), log)
    if accepted is not UNFIT:
        given.values[key.text] = accepted


def distinct_entries(node: MappingNode, log: ProblemLog) -> dict[str, tuple[ScalarNode, Node]]:
    """Return a mapping's entries by key; for a repeated key, return the first and log both places."""
    entries: dict[str, tuple[ScalarNode, Node]] = {}
    for key, value in node.entries:
        if key.text in entries:
            first = entries[key.text][0].place
            log.add(key.place, f"{shown(key.text)} is here twice, first at {first}; keep one")
        else:
            entries[key.text] = (key, value)
    return entries


def _unknown_key(name: str, accepted: list[str]) -> str:
    if name == "<<":
        return 'unknown key "<<": mappings are not merged; in rules, use defaults: and overrides:'
    other = next((word for word in _OTHER_KEYS.get(name, ()) if word in accepted), name)
    return f"unknown key {shown(name)}{did_you_mean(other, accepted)} (accepted: {listed(accepted)})"
