"""A large body of readings in small pieces: each is decoded on its own, so that no step takes long or much memory.

Decoded at once, a body of a few hundred bytes, compressed, can take gigabytes and stop all other work for seconds.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from app.errors import InvalidRequestError, PayloadTooLargeError

#: About the size of a piece in bytes, and the limit of one reading, gateway or object of units.
PIECE_BYTES = 2**18
ITEM_BYTES_LIMIT = 2**20
#: A body with more readings is refused with 413, so that the sender makes its batches smaller.
READINGS_LIMIT = 100_000
#: Likewise for values, one for each metric of each reading.
VALUES_LIMIT = 500_000
#: Limit in bytes of a MessagePack body once decompressed: it is walked through in one step.
MSGPACK_LIMIT = 32 * 2**20
_FIELDS_LIMIT = 100

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+' % _STRING
#: An object of at most two levels, which all readings are, or a number or word.
_ITEM = rb"(?:\{%b(?:\{%b\}%b)*+\}|[^\s\"\[\]{},]++)" % (_FLAT, _FLAT, _FLAT)
_items = re.compile(rb"(?:\s*+%b\s*+,)*+" % _ITEM, re.DOTALL).match
_tokens = re.compile(rb"%b|[\[\]{},\"]" % _STRING, re.DOTALL).finditer
_key = re.compile(rb"\s*+(%b)\s*+:\s*+" % _STRING, re.DOTALL).match
_space = re.compile(rb"\s*+").match


#: Where a piece starts and ends.
_Range = tuple[int, int]


class Body(msgspec.Struct):
    """The parts of a body, each still encoded; gateway and units are None where the body has none."""

    #: Each a list of readings.
    pieces: Iterator[bytes]
    gateway: bytes | None = None
    units: bytes | None = None


class NotReadingsError(Exception):
    """The body is neither a list of readings nor an object with one."""


def split_json(body: bytes) -> Body:
    """Split JSON; raise InvalidRequestError, PayloadTooLargeError or NotReadingsError.

    Pieces are not checked here: what is wrong in one shows when it is decoded.
    """
    encoding = json.detect_encoding(body)
    if encoding != "utf-8":
        try:
            body = body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"The body is not valid JSON: {error}") from None
    return _JsonSplitter(body).split()


class _JsonSplitter:
    """Walks through a JSON text; `_at` is the position of the next byte."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._skip_space()

    def split(self) -> Body:
        if self._next() == b"[":
            split = Body(self._cut(self._list_pieces()))
        elif self._next() == b"{":
            split = self._split_object()
        else:
            raise NotReadingsError
        if self._next():
            raise self._wrong("more follows its end")
        return split

    def _split_object(self) -> Body:
        """Split an envelope. Of two fields with one name the last counts."""
        fields: dict[str, bytes | list[_Range]] = {}
        self._at += 1
        self._skip_space()
        ended, count = self._next() == b"}", 0
        while not ended:
            name, value = self._pass_field()
            if name in ("readings", "gateway", "units"):
                fields[name] = value
            ended, count = self._pass_comma(), count + 1
            if count > _FIELDS_LIMIT:
                raise PayloadTooLargeError(f"The body has more than {_FIELDS_LIMIT} fields; send only those of a batch")
        self._at += 1
        self._skip_space()
        pieces, gateway, units = (fields.get(name) for name in ("readings", "gateway", "units"))
        if not isinstance(pieces, list):
            raise NotReadingsError
        return Body(self._cut(pieces), cast("bytes | None", gateway), cast("bytes | None", units))

    def _pass_field(self) -> tuple[str, bytes | list[_Range]]:
        """Pass a name and its value; return the pieces of a list of readings, any other value as it is."""
        found = _key(self._body, self._at, self._at + ITEM_BYTES_LIMIT)
        if found is None:
            raise self._wrong("a name in double quotes is expected")
        self._at = start = found.end()
        name = _loads(found[1])
        if name == "readings" and self._next() == b"[":
            return name, self._list_pieces()
        self._pass_item()
        _loads(self._body[start : self._at])
        return name, self._body[start : self._at]

    def _pass_comma(self) -> bool:
        """Pass a comma between two fields; return whether the object ends instead."""
        if self._next() == b"}":
            return True
        if self._next() != b",":
            raise self._wrong("a comma or the end of the object is expected")
        self._at += 1
        self._skip_space()
        return False

    def _cut(self, pieces: Sequence[_Range]) -> Iterator[bytes]:
        return (b"[%b]" % self._body[start:end] for start, end in pieces)

    def _list_pieces(self) -> list[_Range]:
        """Pass a list; return where each of its pieces starts and ends, without the comma after it."""
        pieces: list[_Range] = []
        self._at += 1
        self._skip_space()
        while self._next() != b"]" or pieces:
            start = self._at
            found = _items(self._body, start, start + PIECE_BYTES)
            if found is not None and found.end() > start:
                self._at = found.end()
                pieces.append((start, self._at - 1))
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


class _Envelope(msgspec.Struct):
    readings: msgspec.Raw
    gateway: msgspec.Raw = msgspec.Raw()
    units: msgspec.Raw = msgspec.Raw()


_decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode
_decode_items = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
#: First bytes of a list in MessagePack, and how many bytes of its length follow.
_LISTS = {**dict.fromkeys(range(0x90, 0xA0), 0), 0xDC: 2, 0xDD: 4}


def split_msgpack(body: bytes) -> Body:
    """Split MessagePack; raise InvalidRequestError, PayloadTooLargeError or NotReadingsError."""
    if len(body) > MSGPACK_LIMIT:
        raise PayloadTooLargeError(f"A MessagePack body may have {MSGPACK_LIMIT // 2**20} MiB; send smaller batches")
    try:
        if body[:1] and body[0] in _LISTS:
            return Body(_join(_split_list(body)))
        envelope = _decode_envelope(body)
        if not envelope.readings or memoryview(envelope.readings)[0] not in _LISTS:
            raise NotReadingsError
        pieces = _join(_split_list(envelope.readings))
    except msgspec.ValidationError:
        raise NotReadingsError from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid MessagePack: {error}") from None
    return Body(pieces, _encoded(envelope.gateway), _encoded(envelope.units))


def _encoded(field: msgspec.Raw) -> bytes | None:
    if len(field) > ITEM_BYTES_LIMIT:
        raise PayloadTooLargeError(f"gateway or units is larger than {ITEM_BYTES_LIMIT // 2**20} MiB; make it smaller")
    return bytes(field) or None


def _split_list(encoded: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a list, whose length is checked first."""
    view = memoryview(encoded)
    width = _LISTS[view[0]]
    length = int.from_bytes(view[1 : 1 + width], "big") if width else view[0] & 0x0F
    check_count(length)
    return _decode_items(encoded)


def _join(items: list[msgspec.Raw]) -> Iterator[bytes]:
    """Yield the items as lists of about PIECE_BYTES each."""
    piece: list[msgspec.Raw] = []
    size = 0
    for number, item in enumerate(items):
        if len(item) > ITEM_BYTES_LIMIT:
            raise PayloadTooLargeError(
                f"Reading {number} is larger than {ITEM_BYTES_LIMIT // 2**20} MiB; send smaller ones"
            )
        if size + len(item) > PIECE_BYTES and piece:
            yield _list_of(piece)
            piece, size = [], 0
        piece.append(item)
        size += len(item)
    if piece:
        yield _list_of(piece)


def _list_of(items: Sequence[msgspec.Raw]) -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def check_count(readings: int) -> None:
    """Raise PayloadTooLargeError if these are too many readings for one body."""
    if readings > READINGS_LIMIT:
        raise PayloadTooLargeError(f"The body has {readings} readings; send at most {READINGS_LIMIT} at a time")


def check_value_count(values: int) -> None:
    """Raise PayloadTooLargeError if these are too many values for one body."""
    if values > VALUES_LIMIT:
        raise PayloadTooLargeError(f"The body has more than {VALUES_LIMIT} values; send smaller batches")
