"""Parser of YAML into nodes with their places; plain values are always read as YAML 1.2."""

import re
from typing import Literal

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from app.yaml_files.problems import Place, problem_at

#: The deepest nesting that is read. Rules need six levels; the limit keeps a hostile file cheap.
DEEPEST = 24
#: The most values and characters of all files together, where each alias counts as all that it stands for. A rule has
#: 13 values or more. A few lines of aliases of aliases could stand for billions.
MOST_VALUES = 200_000
MOST_CHARACTERS = 5_000_000

ScalarMeaning = Literal["text", "number", "boolean", "nothing"]


class ScalarNode(msgspec.Struct, frozen=True):
    """A single value: its text, without quotes."""

    place: Place
    text: str
    style: Literal["plain", "quoted", "block"]

    @property
    def meaning(self) -> ScalarMeaning:
        """Return the type that the value has in YAML 1.2."""
        if self.style != "plain":
            return "text"
        if self.text in _NOTHING:
            return "nothing"
        if self.text in _BOOLEANS:
            return "boolean"
        return "number" if _NUMBER.fullmatch(self.text) else "text"


class SequenceNode(msgspec.Struct, frozen=True):
    """A list, in order."""

    place: Place
    items: "tuple[Node, ...]"


class MappingNode(msgspec.Struct, frozen=True):
    """Keys and values in the order of the file; a key may occur twice."""

    place: Place
    entries: "tuple[tuple[ScalarNode, Node], ...]"


Node = ScalarNode | SequenceNode | MappingNode


class Extent(msgspec.Struct):
    """Size of a node or of files; each alias counts as the whole node that it stands for."""

    values: int = 0
    characters: int = 0
    #: Lists and mappings inside one another.
    depth: int = 0


def compose(text: str, file: str, before: Extent | None = None) -> Node:
    """Return the root node of one YAML document; raise FileErrors with one problem when the text is not YAML.

    `before` is the extent of the files that were read before, to which that of this one is added.
    """
    composer = _Composer(file, before or Extent())
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            composer.take(event)
    except MarkedYAMLError as error:
        raise problem_at(_error_place(error, file), _explained(error)) from error
    except YAMLError as error:
        raise problem_at(_unprintable_place(text, file), _UNPRINTABLE) from error
    except (ValueError, OverflowError) as error:
        # The scanner raises these for escapes such as "\UFFFFFFFF" that stand for no character.
        raise problem_at(composer.last_place, f"this is not YAML: {error}") from error
    return composer.root or ScalarNode(Place(file, 1, 1), "", "plain")


class _Open(msgspec.Struct):
    """A list or mapping whose end has not been reached; the items of a mapping are its keys and values in turn."""

    place: Place
    anchor: str | None
    items: list[Node]
    extent: Extent


class _Composer:
    """Builds nodes from parser events. It keeps its own stack, so that deep nesting cannot exhaust Python's."""

    def __init__(self, file: str, total: Extent) -> None:
        self.root: Node | None = None
        self.last_place = Place(file, 1, 1)
        self._file = file
        self._documents = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, Extent]] = {}
        self._total = total

    def take(self, event: Event) -> None:
        """Process the next event of the parser."""
        place = self.last_place = _place(event.start_mark, self._file)
        match event:
            case DocumentStartEvent():
                self._start_document(event, place)
            case AliasEvent():
                node, extent = self._anchored(event.anchor, place)
                self._count(extent, place)
                self._add(node, extent)
            case ScalarEvent():
                _refuse_tag(event, place)
                extent = Extent(1, len(event.value))
                self._count(extent, place)
                self._finish(_scalar(event, place), extent, event.anchor)
            case MappingStartEvent() | SequenceStartEvent():
                _refuse_tag(event, place)
                extent = Extent(1, depth=1)
                self._count(extent, place)
                self._open.append(_Open(place, event.anchor, [], extent))
            case MappingEndEvent():
                ended = self._open.pop()
                self._finish(MappingNode(ended.place, _pairs(ended.items)), ended.extent, ended.anchor)
            case SequenceEndEvent():
                ended = self._open.pop()
                self._finish(SequenceNode(ended.place, tuple(ended.items)), ended.extent, ended.anchor)

    def _start_document(self, event: DocumentStartEvent, place: Place) -> None:
        self._documents += 1
        if self._documents > 1:
            raise problem_at(place, "a second document begins here; a file is one document: remove the ---")
        if event.version not in (None, (1, 2)):
            raise problem_at(place, "files are read as YAML 1.2; remove the %YAML line")

    def _anchored(self, anchor: str, place: Place) -> tuple[Node, Extent]:
        if anchor not in self._anchors:
            raise problem_at(
                place,
                f"*{anchor:.40} refers to no &{anchor:.40} before it; "
                f'text that begins with * needs quotes: "*{anchor:.40}"',
            )
        return self._anchors[anchor]

    def _count(self, extent: Extent, place: Place) -> None:
        """Count what comes next, before anything is made of it; refuse what makes the file too large or too deep."""
        self._total.values += extent.values
        self._total.characters += extent.characters
        if self._total.values > MOST_VALUES or self._total.characters > MOST_CHARACTERS:
            raise problem_at(
                place,
                f"here the files have more than {MOST_VALUES:,} values or {MOST_CHARACTERS:,} characters, where each "
                "alias (*name) counts as all that it stands for; write less",
            )
        if len(self._open) + extent.depth > DEEPEST:
            raise problem_at(place, "this is nested too deeply")

    def _finish(self, node: Node, extent: Extent, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, extent)
        self._add(node, extent)

    def _add(self, node: Node, extent: Extent) -> None:
        if not self._open:
            self.root = node
            return
        outer = self._open[-1]
        outer.items.append(node)
        outer.extent.values += extent.values
        outer.extent.characters += extent.characters
        outer.extent.depth = max(outer.extent.depth, extent.depth + 1)


_NOTHING = ("", "~", "null", "Null", "NULL")
_BOOLEANS = ("true", "True", "TRUE", "false", "False", "FALSE")
_NUMBER = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_UNPRINTABLE = "this character is not allowed in YAML; is the file text?"

#: Common mistakes: part of the parser's message or of its context, and the hint that is appended to the error.
_PITFALLS = (
    ("while scanning a block scalar", "an unquoted > or | begins a block of text; for a limit write {above: 8}"),
    ("while scanning an alias", 'an unquoted * refers to an anchor; quote the text: "*"'),
    ("while scanning an anchor", "an unquoted & names an anchor; quote the text"),
    ("while scanning a tag", "an unquoted ! begins a tag; quote the text"),
    ("found character '\\t'", "indent with spaces, not tabs"),
    ("that cannot start any token", "quote text that begins with this character"),
    ("mapping values are not allowed here", "quote text that holds a colon and a space, or check the indentation"),
    ("while scanning a quoted scalar", "a quote is never closed"),
    ("could not find expected ':'", "a key needs a colon and a space after it"),
    ("but found '<scalar>'", "quote text that begins with {, [ or a quote and goes on after it"),
    ("expected <block end>", "check the indentation"),
    ("expected ',' or", "a bracket is never closed, or a comma is missing"),
)


def _place(mark: object, file: str) -> Place:
    return Place(file, getattr(mark, "line", 0) + 1, getattr(mark, "column", 0) + 1)


def _scalar(event: ScalarEvent, place: Place) -> ScalarNode:
    style: Literal["plain", "quoted", "block"] = "plain"
    if event.style in ("|", ">"):
        style = "block"
    elif event.style in ("'", '"'):
        style = "quoted"
    if any("\ud800" <= character <= "\udfff" for character in event.value):
        raise problem_at(place, "half a surrogate pair is no character; write the character itself")
    return ScalarNode(place, event.value, style)


def _refuse_tag(event: ScalarEvent | MappingStartEvent | SequenceStartEvent, place: Place) -> None:
    if event.tag is not None:
        raise problem_at(place, f"tags such as {event.tag:.40} have no use here; quote text that begins with !")


def _pairs(items: list[Node]) -> tuple[tuple[ScalarNode, Node], ...]:
    pairs: list[tuple[ScalarNode, Node]] = []
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, ScalarNode):
            raise problem_at(
                key.place, "a key must be a word, not a list or a mapping; quote text that begins with { or ["
            )
        if isinstance(value, ScalarNode) and value.text == "" and value.style == "plain":
            # For an empty value the parser reports the place of the next token, so the key's place is used.
            value = ScalarNode(key.place, "", "plain")
        pairs.append((key, value))
    return tuple(pairs)


def _error_place(error: MarkedYAMLError, file: str) -> Place:
    return _place(error.problem_mark or error.context_mark, file)


def _explained(error: MarkedYAMLError) -> str:
    problem = f"{error.problem or error.context or 'malformed'}"
    context = f" ({error.context:.200})" if error.context and error.context != problem else ""
    hints = (hint for part, hint in _PITFALLS if part in f"{error.context} {error.problem}")
    return "; ".join([f"this is not YAML: {problem:.200}{context}", *list(hints)[:1]])


def _unprintable_place(text: str, file: str) -> Place:
    """Return the place of the first character that YAML does not allow; the parser's error does not name it."""
    forbidden = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    before = text[: forbidden.start()] if forbidden else ""
    return Place(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
