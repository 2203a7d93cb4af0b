"""Kinds of values in rule files: each reads a node, explains a wrong value, and describes itself as JSON Schema."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import msgspec

from app.alerting.language.yaml_nodes import MappingNode, Node, ScalarNode, SequenceNode
from app.alerting.rules.problems import Place, ProblemLog
from app.hints import did_you_mean, listed, shown

Schema = dict[str, Any]


class WrongValueError(Exception):
    """A node's value is not accepted; the message is appended to the name of its key: ` takes …` or `: …`."""


class Kind(Protocol):
    """A kind of value, such as a duration, a list of channels or a whole rule."""

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return the node's value; raise WrongValueError when it is not accepted. Problems inside it go to the log."""
        ...

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return the JSON Schema of the values accepted; schemas of named mappings are added to `definitions`."""
        ...


class Leaf:
    """A single value; `parse` raises WrongTypeError for a value of another type, ValueError for any other fault."""

    def __init__(
        self, accepted: str, parse: Callable[[ScalarNode], Any], schema: Schema, *, blocks: bool = False
    ) -> None:
        self._accepted = accepted
        self._parse = parse
        self._schema = schema
        self._blocks = blocks

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return the value that `parse` makes of the scalar."""
        if (
            not isinstance(node, ScalarNode)
            or node.meaning == "nothing"
            or (node.style == "block" and not self._blocks)
        ):
            raise mismatch(self._accepted, node)
        try:
            return self._parse(node)
        except WrongTypeError as error:
            raise mismatch(self._accepted, node, str(error)) from None
        except ValueError as error:
            raise WrongValueError(f": {error}") from None

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return the schema of the value."""
        return dict(self._schema)


class WrongTypeError(Exception):
    """A scalar has the wrong type for its leaf; the message is a hint, or empty."""


class ListOf:
    """A list whose items are all of one kind, read as a tuple."""

    def __init__(self, item: Kind, accepted: str, *, unique: bool = False, least: int = 0) -> None:
        self._item = item
        self._accepted = accepted
        self._unique = unique
        self._least = least

    def read(self, node: Node, log: ProblemLog) -> tuple[Any, ...]:
        """Return the items that are accepted."""
        if not isinstance(node, SequenceNode):
            raise mismatch(self._accepted, node)
        if len(node.items) < self._least:
            raise WrongValueError(f" takes {self._accepted}; got an empty list")
        if self._unique:
            _refuse_repeated(node, log)
        values = [read_logged(self._item, item, "this item", log) for item in node.items]
        return tuple(value for value in values if value is not UNFIT)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return the schema of the list."""
        least = {"minItems": self._least} if self._least else {}
        unique = {"uniqueItems": True} if self._unique else {}
        return {"type": "array", "items": self._item.schema(definitions), **least, **unique}


class OneOrListOf:
    """One item, or a list of at most `most` items; both are read as a tuple."""

    def __init__(self, item: Kind, accepted: str, most: int) -> None:
        self._item = item
        self._accepted = accepted
        self._most = most
        self._list = ListOf(item, accepted)

    def read(self, node: Node, log: ProblemLog) -> tuple[Any, ...]:
        """Return the items that are accepted."""
        if isinstance(node, ScalarNode):
            raise mismatch(self._accepted, node)
        if not isinstance(node, SequenceNode):
            return (self._item.read(node, log),)
        if len(node.items) > self._most:
            raise WrongValueError(f" takes {self._accepted}; got a list of {len(node.items)}")
        return self._list.read(node, log)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return the schema of an item or of the list."""
        items = {**self._list.schema(definitions), "maxItems": self._most}
        return {"anyOf": [self._item.schema(definitions), items]}


class Ascending:
    """A list of exactly `count` numbers in ascending order, read as a tuple; neighbours may be equal."""

    def __init__(self, number: Kind, count: int) -> None:
        self._number = number
        self._count = count
        self._accepted = f"a list of {count} numbers, such as [2.0, 8.0]"

    def read(self, node: Node, log: ProblemLog) -> tuple[float, ...]:
        """Return the numbers, or UNFIT when an item is not a number."""
        if not isinstance(node, SequenceNode) or len(node.items) != self._count:
            raise mismatch(self._accepted, node)
        numbers = tuple(read_logged(self._number, item, "this item", log) for item in node.items)
        if UNFIT in numbers:
            return cast("tuple[float, ...]", UNFIT)
        if list(numbers) != sorted(numbers):
            raise WrongValueError(f": the lower number comes first; did you mean {sorted(numbers)}?")
        return numbers

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return the schema of the list; JSON Schema cannot express the order."""
        items = self._number.schema(definitions)
        return {"type": "array", "items": items, "minItems": self._count, "maxItems": self._count}


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


class OneOrMore:
    """A list, or a single item in its place; both are read as a tuple."""

    def __init__(self, items: ListOf, item: Kind) -> None:
        self._items = items
        self._item = item

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return the items."""
        return (self._item.read(node, log),) if isinstance(node, ScalarNode) else self._items.read(node, log)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return a schema that accepts both."""
        return {"anyOf": [self._item.schema(definitions), self._items.schema(definitions)]}


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
        log.lacks_rule = True
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
#: Stands for a value that was not accepted; its problem is logged. None would be a valid value.
UNFIT: Any = object()


def read_logged(kind: Kind, node: Node, name: str, log: ProblemLog) -> Any:
    """Return a node's value; when it is not accepted, log the problem under the name and return UNFIT."""
    try:
        return kind.read(node, log)
    except WrongValueError as wrong:
        log.add(node.place, f"{name}{wrong}")
        return UNFIT


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


def mismatch(accepted: str, node: Node, hint: str = "") -> WrongValueError:
    """Return the error that names what is accepted and what was found, with a hint for a common mistake."""
    hint = hint or _hint(node)
    return WrongValueError(f" takes {accepted}; got {_described(node)}{f' ({hint})' if hint else ''}")


def _refuse_repeated(node: SequenceNode, log: ProblemLog) -> None:
    first: dict[str, Place] = {}
    for item in node.items:
        if isinstance(item, ScalarNode) and first.setdefault(item.text, item.place) != item.place:
            log.add(item.place, f"{shown(item.text)} is in the list twice, first at {first[item.text]}")


def _unknown_key(name: str, accepted: list[str]) -> str:
    if name == "<<":
        return 'unknown key "<<": mappings are not merged; use defaults: and overrides:'
    other = next((word for word in _OTHER_KEYS.get(name, ()) if word in accepted), name)
    return f"unknown key {shown(name)}{did_you_mean(other, accepted)} (accepted: {listed(accepted)})"


def _described(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        return f"a list of {len(node.items)}" if isinstance(node, SequenceNode) else "a mapping"
    if node.style == "block":
        return "a block of text"
    names = {"nothing": "nothing", "boolean": node.text, "number": f"the number {node.text[:40]}"}
    return names.get(node.meaning, f"the text {shown(node.text)}")


def _hint(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        return ""
    if node.style == "block":
        return "an unquoted > or | begins a block of text; for a limit write {above: 8}"
    if node.meaning == "nothing":
        return "leave the key out, or indent what belongs to it"
    if re.match(r"[<>≤≥]", node.text):
        return "for a limit write {above: 8} or {below: 8}"
    return ""
