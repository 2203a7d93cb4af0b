"""Kinds of values in files: each reads a node, explains a wrong value, and describes itself as JSON Schema."""

import re
from collections.abc import Callable
from typing import Any, Protocol

from app.hints import shown
from app.yaml_files.nodes import Node, ScalarNode, SequenceNode
from app.yaml_files.problems import ProblemLog

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


#: Stands for a value that was not accepted; its problem is logged. None would be a valid value.
UNFIT: Any = object()


def read_logged(kind: Kind, node: Node, name: str, log: ProblemLog) -> Any:
    """Return a node's value; when it is not accepted, log the problem under the name and return UNFIT."""
    try:
        return kind.read(node, log)
    except WrongValueError as wrong:
        log.add(node.place, f"{name}{wrong}")
        return UNFIT


def mismatch(accepted: str, node: Node, hint: str = "") -> WrongValueError:
    """Return the error that names what is accepted and what was found, with a hint for a common mistake."""
    hint = hint or _hint(node)
    return WrongValueError(f" takes {accepted}; got {_described(node)}{f' ({hint})' if hint else ''}")


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
