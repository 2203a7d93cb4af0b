"""Kinds of values in rule files: each reads a node, says what it accepts, and describes itself as JSON Schema."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import msgspec

from app.alerting.language.yaml_nodes import MappingNode, Node, ScalarNode, SequenceNode
from app.alerting.rules.problems import Place, ProblemLog
from app.hints import did_you_mean, listed, shown

Schema = dict[str, Any]


class WrongValueError(Exception):
    """A node does not fit; the message goes on after the name of its key: ` takes …` or `: …`."""


class Kind(Protocol):
    """What one place in a rule file accepts."""

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Give the value; WrongValueError where there is none. Problems further inside go to the log."""
        ...

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe what is accepted; known mappings are put among the definitions."""
        ...


class Leaf:
    """A single value; `parse` raises WrongTypeError for another type, ValueError for what the type does not allow."""

    def __init__(
        self, accepted: str, parse: Callable[[ScalarNode], Any], schema: Schema, *, blocks: bool = False
    ) -> None:
        self._accepted = accepted
        self._parse = parse
        self._schema = schema
        self._blocks = blocks

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Give what `parse` makes of the text."""
        if (
            not isinstance(node, ScalarNode)
            or node.meaning == "nothing"
            or (node.style == "block" and not self._blocks)
        ):
            raise unlike(self._accepted, node)
        try:
            return self._parse(node)
        except WrongTypeError as error:
            raise unlike(self._accepted, node, str(error)) from None
        except ValueError as error:
            raise WrongValueError(f": {error}") from None

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe the value."""
        return dict(self._schema)


class WrongTypeError(Exception):
    """A leaf's text is of another type; the message is a hint, or empty."""


class ListOf:
    """A list of one kind, read as a tuple."""

    def __init__(self, item: Kind, accepted: str, *, unique: bool = False, least: int = 0) -> None:
        self._item = item
        self._accepted = accepted
        self._unique = unique
        self._least = least

    def read(self, node: Node, log: ProblemLog) -> tuple[Any, ...]:
        """Give the items that fit."""
        if not isinstance(node, SequenceNode):
            raise unlike(self._accepted, node)
        if len(node.items) < self._least:
            raise WrongValueError(f" takes {self._accepted}; got an empty list")
        if self._unique:
            _refuse_repeated(node, log)
        read = [read_logged(self._item, item, "this item", log) for item in node.items]
        return tuple(value for value in read if value is not UNFIT)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe the list."""
        least = {"minItems": self._least} if self._least else {}
        unique = {"uniqueItems": True} if self._unique else {}
        return {"type": "array", "items": self._item.schema(definitions), **least, **unique}


class Ascending:
    """A list of just so many numbers, none less than the one before, read as a tuple."""

    def __init__(self, number: Kind, count: int) -> None:
        self._number = number
        self._count = count
        self._accepted = f"a list of {count} numbers, such as [2.0, 8.0]"

    def read(self, node: Node, log: ProblemLog) -> tuple[float, ...]:
        """Give the numbers, or UNFIT when one of them is none."""
        if not isinstance(node, SequenceNode) or len(node.items) != self._count:
            raise unlike(self._accepted, node)
        numbers = tuple(read_logged(self._number, item, "this item", log) for item in node.items)
        if UNFIT in numbers:
            return cast("tuple[float, ...]", UNFIT)
        if list(numbers) != sorted(numbers):
            raise WrongValueError(f": the lower number comes first; did you mean {sorted(numbers)}?")
        return numbers

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe the list; JSON Schema cannot say that numbers ascend."""
        items = self._number.schema(definitions)
        return {"type": "array", "items": items, "minItems": self._count, "maxItems": self._count}


class Field(msgspec.Struct, frozen=True):
    """One key of a mapping: its kind, and what it means, with what holds when it is left out."""

    kind: Kind
    doc: str
    required: bool = False


class Given(msgspec.Struct, frozen=True):
    """What a file gives for a mapping: the keys that are there, and the values that fit."""

    place: Place
    places: dict[str, Place] = msgspec.field(default_factory=dict)
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    #: Keys that nobody knows; perhaps one of them was meant to be what is missing.
    unknown: list[str] = msgspec.field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        """Give a key's value, or the default where it is left out or does not fit."""
        return self.values.get(key, default)

    def lacks(self, *keys: str) -> bool:
        """Say whether none of the keys is there, not even misspelt."""
        misspelt = any(did_you_mean(name, keys) for name in self.unknown)
        return not misspelt and not any(key in self.places for key in keys)

    def place_of(self, *keys: str) -> Place:
        """Find the first of the keys that is there, else the mapping itself."""
        return next((self.places[key] for key in keys if key in self.places), self.place)


class MapOf:
    """A mapping whose keys are names of the user's choice."""

    def __init__(self, item: Kind, accepted: str, *, name_pattern: str = "^.+$", name_rule: str = "") -> None:
        self._item = item
        self._accepted = accepted
        self._name_pattern = name_pattern
        self._name_rule = name_rule or "must not be empty"

    def read(self, node: Node, log: ProblemLog) -> Given:
        """Give the entries that fit."""
        if not isinstance(node, MappingNode):
            raise unlike(self._accepted, node)
        given = Given(node.place)
        for name, (key, value) in distinct_entries(node, log).items():
            if re.fullmatch(self._name_pattern, name):
                put_logged(given, key, value, self._item, log)
            else:
                log.add(key.place, f"the name {shown(name)} {self._name_rule}")
        return given

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe the mapping."""
        return {
            "type": "object",
            "propertyNames": {"pattern": self._name_pattern},
            "additionalProperties": self._item.schema(definitions),
        }


class Fields:
    """A mapping with known keys: an unknown one is a problem, and a required one that is left out."""

    def __init__(self, name: str, example: str, fields: Mapping[str, Field], *, also: Schema | None = None) -> None:
        self.fields = fields
        self.name = name
        self._accepted = f"a mapping, such as {example}"
        self._also = also or {}

    def read(self, node: Node, log: ProblemLog) -> Given:
        """Give the known keys whose values fit."""
        if not isinstance(node, MappingNode):
            raise unlike(self._accepted, node)
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
        """Refer to the definition, which is made on first use."""
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


#: Stands for a value that did not fit and was logged; None would be a value.
UNFIT: Any = object()


def read_logged(kind: Kind, node: Node, name: str, log: ProblemLog) -> Any:
    """Read a node; where it does not fit, log that under the name and give UNFIT."""
    try:
        return kind.read(node, log)
    except WrongValueError as wrong:
        log.add(node.place, f"{name}{wrong}")
        return UNFIT


def put_logged(given: Given, key: ScalarNode, value: Node, kind: Kind, log: ProblemLog) -> None:
    """Note a key that is there, and its value if that fits."""
    given.places[key.text] = key.place
    read = read_logged(kind, value, shown(key.text), log)
    if read is not UNFIT:
        given.values[key.text] = read


def distinct_entries(node: MappingNode, log: ProblemLog) -> dict[str, tuple[ScalarNode, Node]]:
    """Give a mapping's entries by key, the first of each; a repeated key is a problem that names both places."""
    entries: dict[str, tuple[ScalarNode, Node]] = {}
    for key, value in node.entries:
        if key.text in entries:
            first = entries[key.text][0].place
            log.add(key.place, f"{shown(key.text)} is here twice, first at {first}; keep one")
        else:
            entries[key.text] = (key, value)
    return entries


def unlike(accepted: str, node: Node, hint: str = "") -> WrongValueError:
    """Say what is accepted and what came instead, with a hint where the slip is a known one."""
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
    return f"unknown key {shown(name)}{did_you_mean(name, accepted)} (accepted: {listed(accepted)})"


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
