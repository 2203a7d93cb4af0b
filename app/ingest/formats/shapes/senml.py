"""SenML in JSON and CBOR (RFC 8428): records whose base fields hold for those that follow.

The sensor is the base name, and the metric the name; without a base name, the name is cut at its last `:` or `/`. CBOR
needs a library, which the extra `senml` brings.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import BytesIO
from math import inf
from typing import Any, Final, TypeGuard

from app.clock import SECOND_US
from app.errors import InvalidRequestError, MissingExtraError
from app.hints import find_meant
from app.ingest.bodies.document import JSON, Document, Listing, read_document
from app.ingest.bodies.loose_json import Repeated, Word, find_repeated_key, strip_nuls
from app.ingest.bodies.pieces import check_count
from app.ingest.formats.shapes import Items, Shape, Source
from app.ingest.formats.shapes._fields import refuse_misspelt, refuse_repeated
from app.ingest.formats.shapes._items import Instant, refuse_item
from app.names import show

_JSON_TYPES: Final = frozenset({"application/senml+json", "application/sensml+json"})
_CBOR_TYPES: Final = frozenset({"application/senml+cbor", "application/sensml+cbor"})
#: The labels of CBOR, RFC 8428, table 4.
_LABELS: Final = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
_FIELDS: Final = frozenset(_LABELS.values())
#: What others call the fields, in lower case without separators.
_OTHER_NAMES: Final = {
    "name": "n", "unit": "u", "value": "v", "stringvalue": "vs", "boolvalue": "vb", "booleanvalue": "vb", "sum": "s",
    "time": "t", "timestamp": "t", "updatetime": "ut", "datavalue": "vd", "basename": "bn", "basetime": "bt",
    "baseunit": "bu", "basevalue": "bv", "basesum": "bs", "version": "bver", "baseversion": "bver",
}  # fmt: skip
_VERSION: Final = 10
#: Smaller times are relative to now.
_RELATIVE_S: Final = 2**28
_TIME_LIMIT_S: Final = 10**11
_SEPARATORS: Final = re.compile(r"[:/]")
#: First bytes of a list in CBOR, and how many bytes of its length follow; 31: it ends with a mark.
_LIST, _ENDLESS, _BREAK = 0x80, 0x9F, b"\xff"
_LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
#: The size within which a record is looked for first.
_USUAL_BYTES: Final = 2**12
#: The limit of one in CBOR, which is decoded in one step of C.
_RECORD_BYTES_LIMIT: Final = 2**16
_LEVELS: Final = 8
#: How the decoder says that a key stands twice in an object; the key follows.
_REPEATED: Final = "Duplicate map key: "
_BITS_LIMIT: Final = 1_000
#: Tags that no record needs, some of which would take long: their content is read as if it had none.
_TAGS: Final = (0, 1, 5, 28, 29, 30, 35, 36, 37, 52, 54, 100, 258, 260, 261, 1004, 43000)


def fits(document: Document) -> bool:
    """Return whether it is a list that begins with a record."""
    first = document.items.first if document.items is not None else None
    return (
        isinstance(first, dict)
        and "sensor" not in first
        and ("bn" in first or ("n" in first and "values" not in first))
    )


def read(document: Document, source: Source) -> Items:
    """Yield a reading for each record that has a number or a boolean."""
    if document.items is None:
        raise InvalidRequestError(
            'The body is no list of SenML records; send for example [{"n": "temperature", "v": 1}]'
        )
    resolver = _Resolver(source)
    for index, record in enumerate(document.items.items()):
        reading = resolver.read(record)
        if reading is not None:
            yield index, reading


class _Resolver:
    """The base fields after the records read up to now.

    A base field that cannot be used is taken out of a record and kept as broken: the records that it would hold for are
    refused, too, until another one comes. They would be stored with a wrong name, time or value otherwise.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._base: dict[str, Any] = {"bver": _VERSION, "bn": "", "bt": 0, "bu": None, "bv": 0}
        #: Base field -> what is wrong with it.
        self._broken: dict[str, str] = {}

    def read(self, record: Any) -> object:
        """Return a record as a reading, None if it has neither a number nor a boolean."""
        if not isinstance(record, dict):
            return refuse_item(f'a record is {show(record)}; send an object such as {{"n": "temperature", "v": 1}}')
        self._take_base(record)
        refused = refuse_repeated(record) or _refuse_unknown(record, self._source)
        if refused is not None:
            return refused
        if not {"v", "vb", "bv"} & record.keys() or ("s" in record and not {"v", "vb"} & record.keys()):
            return None
        if self._broken:
            return refuse_item(next(iter(self._broken.values())))
        name = record.get("n", "")
        if not isinstance(name, str):
            return refuse_item(f"n is {show(name)}; send a text")
        value = record["vb"] if "vb" in record else record.get("v", self._base["bv"])
        sensor, metric = self._split(name)
        time = self._resolve_time(record.get("t", 0))
        reading = {"sensor": sensor, "time": time, "values": {metric: self._resolve_value(record, value)}}
        unit = record.get("u", self._base["bu"])
        return reading if unit is None else {**reading, "unit": unit}

    def _take_base(self, record: Mapping[Any, Any]) -> None:
        """Take over the base fields of a record, each on its own."""
        repeated = record.repeated_key if isinstance(record, Repeated) else None
        for name in self._base:
            misspelt = next((each for each in record if _find_meant(each) == name), None)
            problem: str | None = None
            if name == repeated:
                problem = f"the key {show(name)} stands twice; send it once"
            elif name in record:
                problem = _explain_base(name, record[name])
            elif misspelt is not None:
                problem = f"there is no field {show(misspelt)}; did you mean {name}?"
            else:
                continue
            self._broken.pop(name, None)
            if problem is None:
                self._base[name] = record[name]
            else:
                self._broken[name] = problem

    def _split(self, name: str) -> tuple[str, str]:
        """Return the sensor and the metric."""
        base = self._base["bn"].rstrip(":/")
        if base and name.lstrip(":/"):
            return base, name.lstrip(":/")
        whole = (self._base["bn"] + name).strip(":/")
        places = [found.start() for found in _SEPARATORS.finditer(whole)]
        return (whole[: places[-1]].rstrip(":/"), whole[places[-1] + 1 :]) if places else (self._source.sensor, whole)

    def _resolve_value(self, record: Mapping[str, Any], value: Any) -> Any:
        if "vb" in record:
            return float(value) if isinstance(value, bool) else value
        base = self._base["bv"]
        if "v" not in record or not base or not _is_number(value):
            return value
        try:
            return base + value
        except OverflowError:  # an integer beyond all floats
            return inf

    def _resolve_time(self, time: Any) -> object:
        if not _is_number(time):
            return time
        base = self._base["bt"]
        if not (abs(time) < _TIME_LIMIT_S and abs(base) < _TIME_LIMIT_S):  # so that NaN is refused, too
            return Word(f"{show(base)} + {show(time)} s")
        seconds = base + time
        us = round(seconds * SECOND_US)
        return Instant(us if seconds >= _RELATIVE_S else self._source.times.take_receipt() + us)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool | Word)


def _explain_base(name: str, value: object) -> str | None:
    """Return what is wrong with a base field, or None."""
    if name == "bver" and (not _is_number(value) or value > _VERSION):
        return f"bver is {show(value)}; send SenML of a version up to {_VERSION}"
    if name == "bn" and not isinstance(value, str):
        return f"bn is {show(value)}; send a text"
    if name in ("bt", "bv") and not _is_number(value):
        return f"{name} is {show(value)}; send a number"
    return None


def _find_meant(name: object) -> str | None:
    """Return the field that a misspelt one stands for."""
    return find_meant(name, _FIELDS, _OTHER_NAMES) if isinstance(name, str) and name not in _FIELDS else None


def _refuse_unknown(record: Mapping[Any, Any], source: Source) -> object | None:
    """Return what stands for a reading with a field that is misspelt or that a reader must understand, else None.

    All other unknown fields are counted.
    """
    for name in record.keys() - _FIELDS:
        if isinstance(name, str) and name.endswith("_"):
            return refuse_item(f"{show(name)} is unknown, and its name says that it must be understood; leave it out")
    return refuse_misspelt(record, _FIELDS, _OTHER_NAMES, source)


def open_body(body: bytes, media_type: str) -> Document:
    """Return a body in JSON or CBOR; raise InvalidRequestError, MissingExtraError or PayloadTooLargeError."""
    return _open_cbor(body) if media_type in _CBOR_TYPES else read_document(JSON, strip_nuls(body))


def _open_cbor(body: bytes) -> Document:
    try:
        import cbor2
    except ImportError:
        raise MissingExtraError("senml") from None
    del cbor2
    head = _read_head(body)
    return Document(Listing(lambda: ([record] for record in _read_records(body, *head))))


def _read_head(body: bytes) -> tuple[int, int | None]:
    """Return where the records of a list begin, and how many there are, None if a mark ends them."""
    first = body[0] if body else 0
    if first == _ENDLESS:
        return 1, None
    width = _LENGTHS.get(first - _LIST, 0)
    if not _LIST <= first < _ENDLESS or (not width and first - _LIST >= min(_LENGTHS)):
        raise InvalidRequestError("The body is no list of SenML records in CBOR")
    length = int.from_bytes(body[1 : 1 + width], "big") if width else first - _LIST
    check_count(length)
    return 1 + width, length


def _read_records(body: bytes, start: int, length: int | None) -> Iterator[Any]:
    """Yield the records, each decoded on its own; raise InvalidRequestError at one that cannot be."""
    at, count = start, 0
    while count != length and not (length is None and body[at : at + 1] == _BREAK):
        check_count(count + 1)
        try:
            record, size = _read_record(body[at : at + _USUAL_BYTES])
        except InvalidRequestError:
            try:
                record, size = _read_record(body[at : at + _RECORD_BYTES_LIMIT])
            except InvalidRequestError as error:
                raise InvalidRequestError(f"The body is not valid CBOR at byte {at}, record {count}: {error}") from None
        yield _as_record(record)
        at += size
        count += 1
    rest = body[at + (length is None) :]
    if rest.strip(b"\0"):
        raise InvalidRequestError(f"The body is not valid CBOR at byte {at}: more follows its end")


def _read_record(encoded: bytes) -> tuple[Any, int]:
    """Return the first record of some, and its size in bytes; raise InvalidRequestError."""
    from cbor2 import CBORDecodeError

    try:
        return _decode_record(encoded, allow_duplicate_keys=False)
    except (CBORDecodeError, ValueError, OverflowError, TypeError) as error:
        repeated = str(error).rpartition(_REPEATED)
        if not repeated[1]:
            raise InvalidRequestError(str(error)) from None
    record, size = _decode_record(encoded, allow_duplicate_keys=True)
    is_record = isinstance(record, dict)
    return Repeated(record.items(), _name_label(repeated[2])) if is_record else record, size


def _decode_record(encoded: bytes, *, allow_duplicate_keys: bool) -> tuple[Any, int]:
    from cbor2 import CBORDecoder

    stream = BytesIO(encoded)
    decoder = CBORDecoder(
        stream,
        max_depth=_LEVELS,
        read_size=1,
        semantic_decoders=dict.fromkeys(_TAGS, _read_content),
        allow_duplicate_keys=allow_duplicate_keys,
    )
    return decoder.decode(), stream.tell()


def _name_label(shown: str) -> str:
    """Return the name of a label, which is given as messages show it."""
    return next((name for label, name in _LABELS.items() if shown == str(label)), shown.strip("'"))


def _read_content(decoder: Any, _immutable: bool = False) -> Any:
    return decoder.decode()


def _as_record(record: Any) -> Any:
    if not isinstance(record, Mapping):
        return record
    names = [_LABELS.get(label, label) if isinstance(label, int) else label for label in record]
    named = dict(zip(names, map(_as_number, record.values()), strict=True))
    if isinstance(record, Repeated):
        return Repeated(named.items(), record.repeated_key)
    # A label and the name that it stands for are one.
    return named if len(named) == len(names) else Repeated(named.items(), str(find_repeated_key(names)))


def _as_number(value: Any) -> Any:
    """Return a decimal fraction as a float, an integer beyond all floats as infinity, and others as they are."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int) and value.bit_length() > _BITS_LIMIT:
        return inf if value > 0 else -inf
    return value


SHAPE: Final = Shape(
    example=[
        {"bn": "urn:dev:mac:0024befffe804ff1:", "bt": 1_769_846_400, "n": "temperature", "u": "Cel", "v": 12.5},
        {"n": "humidity", "u": "%RH", "v": 61},
    ],
    fits=fits,
    read=read,
    fields=("bn", "bt", "bu", "n", "u", "v", "t"),
    media_types=_JSON_TYPES | _CBOR_TYPES,
    open_body=open_body,
)
