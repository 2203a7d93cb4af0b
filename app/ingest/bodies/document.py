"""A JSON or MessagePack body whose shape is not known yet: a small one is decoded, a large one only piece by piece."""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from typing import Any

import msgspec

from app.errors import InvalidRequestError
from app.ingest.bodies.loose_json import Repeated, decode_json, decode_utf8_json
from app.ingest.bodies.msgpack_pieces import decode_msgpack, split_msgpack
from app.ingest.bodies.pieces import Pieces, SplitBody, check_repeated, split_json

#: A larger body is decoded in pieces.
WHOLE_BYTES = 2**20


class Coding(msgspec.Struct, frozen=True):
    """JSON or MessagePack, taken as it comes: a value that cannot be decoded becomes one that says so."""

    name: str
    decode: Callable[[bytes], Any]
    #: The same for a part of a body, as `split` returns it.
    decode_part: Callable[[bytes], Any]
    split: Callable[[bytes], SplitBody]

    def read(self, body: bytes) -> Any:
        """Decode a body; raise InvalidRequestError."""
        return self._read(self.decode, body)

    def read_part(self, part: bytes) -> Any:
        """Decode a part of a body; raise InvalidRequestError."""
        return self._read(self.decode_part, part)

    def _read(self, decode: Callable[[bytes], Any], encoded: bytes) -> Any:
        try:
            return decode(encoded)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"The body is not valid {self.name}: {error}") from None


JSON = Coding("JSON", decode_json, decode_utf8_json, split_json)
MESSAGE_PACK = Coding("MessagePack", decode_msgpack, decode_msgpack, split_msgpack)


class Listing:
    """A list in a body; each walk over it yields its items in lists, of which one at a time is in memory."""

    def __init__(self, lists: Callable[[], Iterable[list[Any]]], pieces: Pieces | None = None) -> None:
        self._lists = lists
        #: The same lists, still encoded; None if they were decoded with the whole body.
        self.pieces = pieces

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self._lists())

    def __repr__(self) -> str:
        return "[...]"

    def items(self) -> Iterator[Any]:
        """Yield the items one by one."""
        for some in self:
            yield from some

    @cached_property
    def first(self) -> Any:
        """The first item; None if there is none."""
        return next(self.items(), None)


class Document:
    """A body: a list, an object, or neither."""

    def __init__(self, items: Listing | None = None, fields: dict[str, Any] | None = None) -> None:
        self.items = items
        self._fields = fields
        #: The names of an object's fields; None if the body is no object.
        self.names: Collection[str] | None = None if fields is None else fields.keys()

    @property
    def is_neither(self) -> bool:
        """Whether it is neither a list nor an object."""
        return self.items is None and self.names is None

    @classmethod
    def of(cls, value: object) -> "Document":
        """Return the decoded document; raise InvalidRequestError if an object has a field twice.

        An object with a name that is no text, as MessagePack may have it, is of no shape.
        """
        if isinstance(value, list):
            return cls(_listing(value))
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            if isinstance(value, Repeated):
                check_repeated(True, value.repeated_key)
            return cls(fields=value)
        return cls()

    def get(self, name: str) -> Any:
        """Return a field, decoded, or a Listing of a large body; None where there is no such field."""
        field = self._fields.get(name) if self._fields is not None else None
        return field() if isinstance(field, _Encoded) else field

    def list_of(self, name: str) -> Listing | None:
        """Return a field that is a list, else None."""
        field = self._fields.get(name) if self._fields is not None else None
        return _listing(field) if isinstance(field, list) else field if isinstance(field, Listing) else None

    def as_object(self) -> dict[str, Any]:
        """Return all fields."""
        return {name: self.get(name) for name in self.names or ()}

    def check_rest(self) -> None:
        """Decode what nobody asked for of a large body; raise InvalidRequestError, as for a small one."""
        for field in (self._fields or {}).values():
            if isinstance(field, _Encoded) and not field.was_read:
                field()
            elif isinstance(field, Listing) and isinstance(field.pieces, _Watched) and not field.pieces.were_taken:
                for _ in field:
                    pass


class _Encoded:
    """A field that is decoded when it is asked for."""

    def __init__(self, coding: Coding, encoded: bytes) -> None:
        self._coding = coding
        self._encoded = encoded
        self.was_read = False

    def __call__(self) -> Any:
        self.was_read = True
        return self._coding.read_part(self._encoded)


class _Watched:
    """The pieces of a list, and whether somebody has taken all of them."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self.were_taken = False

    def __call__(self) -> Iterator[bytes]:
        yield from self._pieces()
        self.were_taken = True


def read_document(coding: Coding, body: bytes) -> Document:
    """Return a body as a document; raise InvalidRequestError or PayloadTooLargeError."""
    if len(body) <= WHOLE_BYTES:
        return Document.of(coding.read(body))
    split = coding.split(body)
    if split.items is not None:
        return Document(_in_pieces(coding, split.items))
    if split.fields is None:
        return Document()
    return Document(
        fields={
            name: _Encoded(coding, part) if isinstance(part, bytes) else _in_pieces(coding, part)
            for name, part in split.fields.items()
        }
    )


def _listing(items: list[Any]) -> Listing:
    return Listing(lambda: (items,))


def _in_pieces(coding: Coding, pieces: Pieces) -> Listing:
    watched = _Watched(pieces)
    return Listing(lambda: map(coding.read_part, watched()), watched)
