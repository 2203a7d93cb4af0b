"""Lists in files, and single items in the place of a list; all are read as tuples."""

from typing import Any, cast

from app.hints import shown
from app.yaml_files.kinds import UNFIT, Kind, Schema, WrongValueError, mismatch, read_logged
from app.yaml_files.nodes import Node, ScalarNode, SequenceNode
from app.yaml_files.problems import Place, ProblemLog


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


def _refuse_repeated(node: SequenceNode, log: ProblemLog) -> None:
    first: dict[str, Place] = {}
    for item in node.items:
        if isinstance(item, ScalarNode) and first.setdefault(item.text, item.place) != item.place:
            log.add(item.place, f"{shown(item.text)} is in the list twice, first at {first[item.text]}")
