"""A large MessagePack body in small pieces, and MessagePack decoded value by value where a value cannot be decoded."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from app.errors import InvalidRequestError, PayloadTooLargeError
from app.ingest.bodies import pieces
from app.ingest.bodies.loose_json import Repeated, find_repeated_key
from app.ingest.bodies.pieces import ITEM_BYTES_LIMIT, Pieces, SplitBody, check_count, check_fields, check_repeated

#: Limit in bytes of a MessagePack body once decompressed: it is walked through in one step.
MSGPACK_LIMIT = 32 * 2**20
_decode_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_check_whole = msgspec.msgpack.Decoder(msgspec.Raw).decode
_decode_items = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.msgpack.Encoder().encode
#: Levels of lists and objects that a body of readings has; deeper ones are not looked into one by one.
_LEVELS = 5
_UNDECODED = object()
#: First bytes of a list and of an object in MessagePack, and how many bytes of its length follow.
_LISTS = {**dict.fromkeys(range(0x90, 0xA0), 0), 0xDC: 2, 0xDD: 4}
_OBJECTS = {**dict.fromkeys(range(0x80, 0x90), 0), 0xDE: 2, 0xDF: 4}


class Undecodable:
    """A value of MessagePack that no JSON has: a time out of range, or an extension type."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    def __repr__(self) -> str:
        return f"the MessagePack value 0x{self._encoded[:12].hex()}"


_decode = msgspec.msgpack.Decoder(ext_hook=lambda code, data: Undecodable(bytes([code % 256, *data[:11]]))).decode


def split_msgpack(body: bytes) -> SplitBody:
    """Split MessagePack; raise InvalidRequestError or PayloadTooLargeError."""
    if len(body) > MSGPACK_LIMIT:
        raise PayloadTooLargeError(f"A MessagePack body may have {MSGPACK_LIMIT // 2**20} MiB; send smaller batches")
    first = body[0] if body else None
    try:
        if first in _LISTS:
            return SplitBody(_in_pieces(_split_list(body)))
        if first in _OBJECTS:
            fields = _split_fields(body)
            repeated = _find_repeated_key(body, fields)
            check_repeated(repeated is not None, repeated or "")
            return SplitBody(fields={name: _part(raw) for name, raw in fields.items()})
        _decode(body)
    except msgspec.ValidationError:  # a name that is no text
        return SplitBody()
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid MessagePack: {error}") from None
    return SplitBody()


def decode_msgpack(body: bytes) -> Any:
    """Decode MessagePack; raise ValueError or RecursionError.

    A value of an object that cannot be decoded becomes Undecodable, and so does an item of a list; nothing else of the
    body is lost. An object with a key twice is Repeated.
    """
    return _decode_parts(body, _LEVELS)


def repeats_key(encoded: bytes) -> bool:
    """Return whether an object has a key twice, in MessagePack that can be decoded and has no extension types.

    The decoder keeps the last one and does not tell. Nothing is lost where encoding again gives the same bytes. Other
    encoders may write other bytes; then the objects are counted one by one.
    """
    return _encode(_decode(encoded)) != encoded and _repeats_key(encoded, _LEVELS)


def _repeats_key(encoded: bytes | msgspec.Raw, levels: int) -> bool:
    kind = memoryview(encoded)[0]
    if not levels or (kind not in _LISTS and kind not in _OBJECTS):
        return False
    if kind in _LISTS:
        return any(_repeats_key(item, levels - 1) for item in _split_list(encoded))
    fields = _decode_fields(encoded)
    return len(fields) < _length(memoryview(encoded), _OBJECTS) or any(
        _repeats_key(value, levels - 1) for value in fields.values()
    )


def _decode_parts(encoded: bytes, levels: int) -> Any:
    is_parted = bool(levels and encoded) and (encoded[0] in _LISTS or encoded[0] in _OBJECTS)
    whole: Any = _UNDECODED
    try:
        whole = _decode(encoded)
    except (msgspec.DecodeError, TypeError):  # of the second kind, a list or an object as a name
        if not is_parted:
            return _undecodable(encoded)
    if not is_parted or _is_unchanged(whole, encoded):
        return whole
    if encoded[0] in _LISTS:
        return [_decode_parts(bytes(item), levels - 1) for item in _split_list(encoded)]
    try:
        fields = _split_fields(encoded)
    except msgspec.ValidationError:  # a name that is no text
        return _undecodable(encoded) if whole is _UNDECODED else whole
    decoded = {name: _decode_parts(bytes(value), levels - 1) for name, value in fields.items()}
    repeated = _find_repeated_key(encoded, fields)
    return decoded if repeated is None else Repeated(decoded.items(), repeated)


def _is_unchanged(decoded: Any, encoded: bytes) -> bool:
    try:
        return _encode(decoded) == encoded
    except (TypeError, ValueError, OverflowError, RecursionError):  # it has something that no MessagePack has
        return False


def _find_repeated_key(encoded: bytes | msgspec.Raw, fields: dict[str, msgspec.Raw]) -> str | None:
    """Return the first key that stands twice in an object, of which these are the fields; None if there is none."""
    view = memoryview(encoded)
    count = _length(view, _OBJECTS)
    if len(fields) == count:
        return None
    # An object is a list of names and values after another head.
    flat = _decode_items(b"\xdd" + (2 * count).to_bytes(4, "big") + view[1 + _OBJECTS[view[0]] :].tobytes())
    repeated: str | None = find_repeated_key([msgspec.msgpack.decode(name, type=str) for name in flat[::2]])
    return repeated


def _undecodable(encoded: bytes) -> Undecodable:
    """Return the mark of one value; raise DecodeError if it is not even one."""
    _check_whole(encoded)
    return Undecodable(encoded)


def _part(raw: msgspec.Raw) -> bytes | Pieces:
    if memoryview(raw)[0] in _LISTS:
        return _in_pieces(_split_list(raw))
    if len(raw) > ITEM_BYTES_LIMIT:
        raise PayloadTooLargeError(
            f"A field of the body is larger than {ITEM_BYTES_LIMIT // 2**20} MiB; make it smaller"
        )
    return bytes(raw)


def _in_pieces(items: list[msgspec.Raw]) -> Pieces:
    return lambda: _join(items)


def _split_fields(encoded: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of an object, whose number is checked first."""
    check_fields(_length(memoryview(encoded), _OBJECTS))
    return _decode_fields(encoded)


def _split_list(encoded: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a list, whose length is checked first."""
    check_count(_length(memoryview(encoded), _LISTS))
    return _decode_items(encoded)


def _length(view: memoryview, kinds: dict[int, int]) -> int:
    width = kinds[view[0]]
    return int.from_bytes(view[1 : 1 + width], "big") if width else view[0] & 0x0F


def _join(items: list[msgspec.Raw]) -> Iterator[bytes]:
    """Yield the items as lists of about PIECE_BYTES each."""
    piece: list[msgspec.Raw] = []
    size = 0
    for number, item in enumerate(items):
        if len(item) > ITEM_BYTES_LIMIT:
            raise PayloadTooLargeError(
                f"Reading {number} is larger than {ITEM_BYTES_LIMIT // 2**20} MiB; send smaller ones"
            )
        if size + len(item) > pieces.PIECE_BYTES and piece:
            yield _list_of(piece)
            piece, size = [], 0
        piece.append(item)
        size += len(item)
    if piece:
        yield _list_of(piece)


def _list_of(items: Sequence[msgspec.Raw]) -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)
