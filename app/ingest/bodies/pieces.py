"""A large JSON body in small pieces: each is decoded on its own, so that no step takes long or much memory.

Decoded at once, a body of a few hundred bytes, compressed, can take gigabytes and stop all other work for seconds.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from app.errors import InvalidRequestError, PayloadTooLargeError

#: About the size of a piece in bytes, and the limit of one reading, gateway or object of units.
PIECE_BYTES = 2**18
ITEM_BYTES_LIMIT = 2**20
#: A body with more readings is refused with 413, so that the sender makes its batches smaller.
READINGS_LIMIT = 100_000
#: Likewise for values, one for each metric of each reading.
VALUES_LIMIT = 500_000

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+' % _STRING
#: An object of at most two levels, which all readings are, a text, or a number or word.
_ITEM = rb"(?:\{%b(?:\{%b\}%b)*+\}|%b|[^\s\"\[\]{},]++)" % (_FLAT, _FLAT, _FLAT, _STRING)
_items = re.compile(rb"(?:\s*+%b\s*+,)*+" % _ITEM, re.DOTALL).match
_tokens = re.compile(rb"%b|[\[\]{},\"]" % _STRING, re.DOTALL).finditer
_key = re.compile(rb"\s*+(%b)\s*+:\s*+" % _STRING, re.DOTALL).match
_space = re.compile(rb"\s*+").match


#: Where a piece starts and ends.
_Range = tuple[int, int]
#: Yields the pieces of a list, each a list that is still encoded.
Pieces = Callable[[], Iterator[bytes]]


class SplitBody(msgspec.Struct):
    """The parts of a body, each still encoded: of a list its pieces, of an object its fields."""

    items: Pieces | None = None
    #: The lists among them in pieces.
    fields: dict[str, bytes | Pieces] | None = None


def split_json(body: bytes) -> SplitBody:
    """Split JSON; raise InvalidRequestError or PayloadTooLargeError.

    Pieces are not checked here: what is wrong in one shows when it is decoded.
    """
    encoding = json.detect_encoding(body)
    if encoding != "utf-8":
        try:
            body = body.decode(encoding, "surrogatepass").rstrip("\0").encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"The body is not valid JSON: {error}") from None
    return _JsonSplitter(body).split()


class _JsonSplitter:
    """Walks through a JSON text; `_at` is the position of the next byte."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._skip_space()

    def split(self) -> SplitBody:
        split = SplitBody()
        if self._next() == b"[":
            split.items = self._cut(self._list_pieces())
        elif self._next() == b"{":
            split.fields = self._split_object()
        else:
            return split  # decoded as a whole, it would be found wrong or of no shape
        if self._next():
            raise self._wrong("more follows its end")
        return split

    def _split_object(self) -> dict[str, bytes | Pieces]:
        fields: dict[str, bytes | Pieces] = {}
        self._at += 1
        self._skip_space()
        ended = self._next() == b"}"
        while not ended:
            name, value = self._pass_field()
            check_repeated(name in fields, name)
            fields[name] = value
            ended = self._pass_comma()
            check_fields(len(fields))
        self._at += 1
        self._skip_space()
        return fields

    def _pass_field(self) -> tuple[str, bytes | Pieces]:
        """Pass a name and its value; return the pieces of a list, any other value as it is."""
        found = _key(self._body, self._at, self._at + ITEM_BYTES_LIMIT)
        if found is None:
            raise self._wrong("a name in double quotes is expected")
        self._at = start = found.end()
        name = _loads(found[1])
        if self._next() == b"[":
            return name, self._cut(self._list_pieces())
        self._pass_item()
        if not self._body[start : self._at].strip():
            raise self._wrong("a value is expected")
        return name, self._body[start : self._at]

    def _pass_comma(self) -> bool:
        """Pass a comma after a field; return whether the object ends there or instead."""
        if self._next() == b",":
            self._at += 1
            self._skip_space()
        elif self._next() != b"}":
            raise self._wrong("a comma or the end of the object is expected")
        return self._next() == b"}"

    def _cut(self, pieces: Sequence[_Range]) -> Pieces:
        return lambda: (b"[%b]" % self._body[start:end] for start, end in pieces)

    def _list_pieces(self) -> list[_Range]:
        """Pass a list; return where each of its pieces starts and ends, without the comma after it."""
        pieces: list[_Range] = []
        self._at += 1
        self._skip_space()
        while self._next() != b"]":
            start = self._at
            found = _items(self._body, start, start + PIECE_BYTES)
            if found is not None and found.end() > start:
                self._at = found.end()
                pieces.append((start, self._at - 1))
                self._skip_space()
                continue
            # The last one, or one that is large or has more levels.
            self._pass_item()
            if not self._body[start : self._at].strip():
                raise self._wrong("a reading is expected")
            pieces.append((start, self._at))
            check_count(len(pieces))
            if self._next() != b",":
                break
            self._at += 1
            self._skip_space()
        if self._next() != b"]":
            raise self._wrong("a comma or the end of the list is expected")
        self._at += 1
        self._skip_space()
        return pieces

    def _pass_item(self) -> None:
        """Pass one value of any kind and the space after it."""
        depth, start = 0, self._at
        for token in _tokens(self._body, start, start + ITEM_BYTES_LIMIT):
            kind = token[0]
            if kind in (b"[", b"{"):
                depth += 1
            elif kind in (b"]", b"}", b","):
                if not depth:
                    self._at = token.start()
                    break
                depth -= kind != b","
            elif kind == b'"':
                raise self._too_large(start)
        else:
            if start + ITEM_BYTES_LIMIT < len(self._body):
                raise self._too_large(start)
            raise self._wrong("it ends early")

    def _too_large(self, start: int) -> Exception:
        if start + ITEM_BYTES_LIMIT >= len(self._body):
            return self._wrong("it ends early")
        return PayloadTooLargeError(
            f"The reading or field at byte {start} is larger than {ITEM_BYTES_LIMIT // 2**20} MiB; send smaller ones"
        )

    def _wrong(self, what: str) -> InvalidRequestError:
        return InvalidRequestError(f"The body is not valid JSON at byte {self._at}: {what}")

    def _next(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _skip_space(self) -> None:
        found = _space(self._body, self._at)
        self._at = found.end() if found is not None else self._at


def _loads(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error}") from None


def check_fields(fields: int) -> None:
    """Raise PayloadTooLargeError if an object has more fields than any format."""
    if fields > READINGS_LIMIT:
        raise PayloadTooLargeError(f"The body has more than {READINGS_LIMIT} fields; send only those of a batch")


def check_repeated(is_repeated: bool, name: str) -> None:
    """Raise InvalidRequestError if a field of the body stands in it already."""
    if is_repeated:
        raise InvalidRequestError(f"The body has the field {name!r:.60} twice; send it once")


def check_count(readings: int) -> None:
    """Raise PayloadTooLargeError if these are too many readings for one body."""
    if readings > READINGS_LIMIT:
        raise PayloadTooLargeError(f"The body has {readings} readings; send at most {READINGS_LIMIT} at a time")


def check_value_count(values: int) -> None:
    """Raise PayloadTooLargeError if these are too many values for one body."""
    if values > VALUES_LIMIT:
        raise PayloadTooLargeError(f"The body has more than {VALUES_LIMIT} values; send smaller batches")
