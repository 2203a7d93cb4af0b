"""`POST /api/v1/readings`: a body in any of the shapes of app/ingest/formats/shapes, in JSON, MessagePack or as text.

A body in Tidegauge's own shape whose types are all right is decoded into structs and checked as a whole. Any other body
is decoded without types and checked reading by reading, so that one bad value does not reject others.
"""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import require
from app.clock import to_us
from app.errors import InvalidRequestError
from app.ingest.bodies import document as documents
from app.ingest.bodies.document import JSON, MESSAGE_PACK, Coding, Document, Listing, read_document
from app.ingest.bodies.pieces import check_count, check_value_count
from app.ingest.checks import EXACT_LIMIT, refuse_sensor, time_limits
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats.shapes import Source, Units, find_shape, find_text_shape, native, shapes_by_media_type
from app.ingest.formats.shapes._items import are_units, check_items, merge_units
from app.ingest.formats.shapes._nearest import refuse_shape
from app.ingest.formats.shapes._operation import ReadingsOperation
from app.ingest.intake import AnyRequest, Ingest, UploadRoute
from app.ingest.upload import Readings, Receipt, Rejected, Series, collect_readings, encode_series
from app.model import Reading
from app.names import are_metric_names, are_sensor_names, explain_tags, is_sensor_name, is_unit, tidy_name
from app.problems import problem_responses

#: The quotes of a longer body are counted by numpy.
_LONG_BYTES: Final = 4_096
MSGPACK_TYPES: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


class ReadingBody(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A reading as sent. `time` is RFC 3339 with a zone or milliseconds since 1970; without it, the time of receipt."""

    sensor: str
    #: Whether a greater integer is exact cannot be told any more once it is a float.
    values: dict[str, Annotated[float, msgspec.Meta(gt=-EXACT_LIMIT, lt=EXACT_LIMIT)]]
    #: A text is parsed later, because many readings of a batch share one.
    time: Any = None
    tags: dict[str, str] | None = None
    #: The unit of all values, and units by metric, which go before it.
    unit: str | None = None
    units: dict[str, str | None] | None = None


class UploadBody(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of readings, with the name of the gateway that sent it, and units by metric for all of them."""

    readings: list[ReadingBody]
    gateway: str | None = None
    units: dict[str, str | None] | None = None


_Typed = UploadBody | list[ReadingBody]


class _Decoders(NamedTuple):
    """The decoders by type of a whole body and of a piece of one."""

    whole: Callable[[bytes], _Typed]
    piece: Callable[[bytes], list[ReadingBody]]


_BY_TYPE = {
    JSON.name: _Decoders(msgspec.json.Decoder(_Typed).decode, msgspec.json.Decoder(list[ReadingBody]).decode),
    MESSAGE_PACK.name: _Decoders(
        msgspec.msgpack.Decoder(_Typed).decode, msgspec.msgpack.Decoder(list[ReadingBody]).decode
    ),
}


def parse(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed:
    """Return the readings and rejections of a body that says itself which sensors it is about."""
    return parse_from(body, media_type, Source(times))


def parse_from(body: bytes, media_type: str, source: Source) -> Parsed:
    """Return the readings and rejections of a body; a large one is decoded in pieces, and runs in a thread.

    Raise InvalidRequestError if it cannot be decoded, PayloadTooLargeError if it has too many readings or values.
    """
    shape = shapes_by_media_type().get(media_type)
    if shape is not None:
        document = shape.open_body(body, media_type) if shape.open_body is not None else read_document(JSON, body)
        return _collect(check_items(shape.read(document, source), source), source)
    coding = _coding(media_type)
    if coding is JSON:
        body = body.rstrip(b"\0")  # firmware may count the end of a text in C
    if len(body) <= documents.WHOLE_BYTES and source.asked_sensor is None:
        typed = _decode_typed(_BY_TYPE[coding.name].whole, body)
        if typed is not None and (parsed := _take_good_upload(typed, body, coding, source.times)) is not None:
            return parsed
    return _parse_document(coding, body, source)


def parse_good(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed | None:
    """Return the readings of a body in Tidegauge's own shape in which all is right, quickly; None for any other."""
    if media_type in shapes_by_media_type():
        return None
    coding = _coding(media_type)
    typed = _decode_typed(_BY_TYPE[coding.name].whole, body)
    return None if typed is None else _take_good_upload(typed, body, coding, times)


def _coding(media_type: str) -> Coding:
    return MESSAGE_PACK if media_type in MSGPACK_TYPES else JSON


def _decode_typed(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Return what is decoded, or None where a type is wrong or the body is broken."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _parse_document(coding: Coding, body: bytes, source: Source) -> Parsed:
    """Parse a body whose shape is not known yet, reading by reading."""
    try:
        document = read_document(coding, body)
        shape = find_shape(document)
    except InvalidRequestError:
        if coding is not JSON or find_text_shape(body) is None:
            raise
        document, shape = Document(), None
    if document.is_neither and coding is JSON and (shape := find_text_shape(body)) is not None:
        assert shape.open_body is not None  # noqa: S101 -- as of each shape of text
        document = shape.open_body(body, "")
    if shape is None:
        raise refuse_shape(document)
    if shape is native.SHAPE and len(body) > documents.WHOLE_BYTES:
        listing = document.items or document.list_of("readings")
        if listing is not None and listing.pieces is not None:
            return _collect(_read_pieces(coding, native.open_envelope(document, source), source), source)
    return _collect(check_items(shape.read(document, source), source), source)


def _collect(parts: Iterator[Readings], source: Source) -> Parsed:
    """Join the readings of a body; raise PayloadTooLargeError if it has too many values."""
    kept: list[Readings] = []
    value_count = 0
    for part in parts:
        kept.append(part)
        value_count += len(part.values)
        check_value_count(value_count + source.rejected.count)
    return Parsed(Readings.join(kept), source.rejected, source.gateway)


def _read_pieces(coding: Coding, listing: Listing, source: Source) -> Iterator[Readings]:
    """Yield the readings of a list piece by piece; each piece is forgotten before the next one is decoded."""
    assert listing.pieces is not None  # noqa: S101 -- asked before
    count = 0
    for piece in listing.pieces():
        typed = None if source.asked_sensor is not None else _decode_typed(_BY_TYPE[coding.name].piece, piece)
        readings = None
        if typed is not None:
            source.times.expect(len(typed))
            check_count(count + len(typed))
            readings = _take_good(typed, source.times, source.units, piece, coding, count)
        items = typed if readings is not None else coding.read(piece)
        check_count(count + len(items))
        if readings is None:
            source.times.expect(len(items))
            yield from check_items(iter(enumerate(items, count)), source)
        else:
            yield readings
        count += len(items)


def _take_good_upload(upload: _Typed, body: bytes, coding: Coding, times: ReceiptTimes) -> Parsed | None:
    """Return the readings of a decoded body, None if something in it has to be looked at more closely."""
    if isinstance(upload, list):
        items, gateway, units, strings = upload, None, None, 0
    else:
        items, gateway, units = upload.readings, upload.gateway, upload.units
        strings = 1 + (0 if gateway is None else 2) + _count_strings(units)
        if gateway is not None and not is_sensor_name(gateway):
            return None
    check_count(len(items))
    times.expect(len(items))
    if units is not None and not are_units(units):
        return None
    readings = _take_good(items, times, units, body, coding, strings=strings)
    return None if readings is None else Parsed(readings, Rejected(), gateway)


def _take_good(
    items: list[ReadingBody],
    times: ReceiptTimes,
    units: Units,
    encoded_items: bytes,
    coding: Coding,
    start: int = 0,
    strings: int = 0,
) -> Readings | None:
    """Return the readings of items with the right types if all are valid, else None.

    They begin at position `start` of the body; beside them, there are `strings` strings in `encoded_items`.
    """
    sensors, values = [item.sensor for item in items], [item.values for item in items]
    encoded = encode_series(sensors, values)
    strings += 3 * len(items) + len(encoded[1])
    strings += len(items) * _STRINGS_OF_TIME.get(type(items[0].time), 0) if items else 0
    quoted = _count_quoted(encoded_items) if coding is JSON else None
    described: list[ReadingBody] = []
    if units or strings != quoted:  # otherwise there is no place for tags and units, and no need for a walk
        described = [
            item for item in items if units or item.tags is not None or item.unit is not None or item.units is not None
        ]
        strings += sum(map(_count_described, described))
    if (
        quoted in (None, strings)
        and all(values)
        and _are_good(encoded[0], described)
        and (times_us := _times_us(items, times))
    ):
        readings = _describe(items, times_us, units, start) if described else ()
        return collect_readings(encoded, times_us, values, range(start, start + len(items)), readings)
    return None


def _are_good(series: list[Series], described: list[ReadingBody]) -> bool:
    """Return whether all names, tags and units can be stored; each name is checked once."""
    return (
        are_sensor_names({sensor for sensor, _ in series})
        and are_metric_names({metric for _, metric in series})
        and all(explain_tags(item.tags) is None for item in described if item.tags is not None)
        and all(map(is_unit, {item.unit for item in described if item.unit is not None}))
        and all(are_units(item.units) for item in described if item.units is not None)
    )


def _times_us(items: list[ReadingBody], times: ReceiptTimes) -> list[int] | None:
    """Return the times in microseconds if all have one form and none is refused, else None."""
    moments = [item.time for item in items]
    kinds = set(map(type, moments))
    if kinds == {NoneType}:
        return [times.give(item.sensor) for item in items]
    if kinds == {int}:
        times_us = [moment * 1_000 for moment in moments]
    elif kinds == {str} and (by_text := _parse_times({*moments})):
        times_us = [by_text[moment] for moment in moments]
    else:
        return None
    earliest, latest = time_limits(times.received_us)
    return times_us if earliest <= min(times_us) and max(times_us) <= latest else None


def _parse_times(texts: Collection[str]) -> dict[str, int] | None:
    """Return each RFC 3339 time in microseconds, or None if one of them is wrong."""
    try:
        moments = msgspec.convert([*texts], list[Annotated[datetime, msgspec.Meta(tz=True)]])
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    return dict(zip(texts, map(to_us, moments), strict=True))


def _describe(items: list[ReadingBody], times_us: list[int], units: Units, start: int) -> list[Reading]:
    """Return the readings that bring tags or units."""
    return [
        Reading(item.sensor, time_us, item.values, item.tags, index, own)
        for index, (item, time_us) in enumerate(zip(items, times_us, strict=True), start)
        if (own := merge_units(item.values, item.unit, item.units, units)) is not None or item.tags is not None
    ]


#: A text that is the time of a reading comes with the text "time", and so does a number.
_STRINGS_OF_TIME: Final = {int: 1, float: 1, str: 2}


def _count_described(item: ReadingBody) -> int:
    """Return how many texts tags and units of a reading have, with the names of the fields."""
    tags = 0 if item.tags is None else 1 + 2 * len(item.tags)
    return tags + (0 if item.unit is None else 2) + _count_strings(item.units)


def _count_strings(units: Units) -> int:
    return 0 if units is None else 1 + len(units) + sum(unit is not None for unit in units.values())


def _count_quoted(encoded: bytes) -> int:
    """Return how many texts JSON has, -1 if that is not told quickly.

    It has more than were decoded where a field is unknown, or a name stands twice; the decoder leaves both out.
    """
    if b"\\" in encoded and (b'\\"' in encoded or b"\\\\" in encoded):
        return -1
    if len(encoded) < _LONG_BYTES:
        return encoded.count(b'"') // 2
    return int(np.count_nonzero(np.frombuffer(encoded, np.uint8) == ord('"'))) // 2


_PROBLEMS = problem_responses(
    {
        400: "The body cannot be decoded",
        413: "More bytes, decompressed bytes, readings or values than one request may have",
        422: "The Idempotency-Key was used for another body",
        503: "Overload, or the database is away: nothing was stored, see Retry-After",
    }
)


@UploadRoute(
    "/api/v1/readings",
    http_method="POST",
    guards=[require("ingest")],
    status_code=HTTP_200_OK,
    operation_class=ReadingsOperation,
    responses=_PROBLEMS,
    tags=["Readings"],
    summary="Store a batch of readings",
)
async def post_readings(
    request: AnyRequest,
    ingest: NamedDependency[Ingest],
    sensor: Annotated[str | None, QueryParameter(description="The sensor of readings that name none")] = None,
    dry_run: Annotated[bool, QueryParameter(description="With 1, nothing is stored; the answer is the same")] = False,
) -> Receipt:
    """Store readings. Sending the same ones again is safe: they are counted as duplicates.

    Bad values are rejected one by one, with a code and a message that says what to send instead; the others are
    stored. The answer is 200 even then, so that a sender does not repeat values that can never be stored.
    """
    asked, own = _check_sensor(sensor), own_sensor(request)

    def parse_this(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed:
        return parse_from(body, media_type, Source(times, asked, own))

    return await ingest.take(request, parse_this, parse_good if asked is None else None, dry_run=dry_run)


def _check_sensor(sensor: str | None) -> str | None:
    """Return the parameter as a name is stored; raise InvalidRequestError."""
    tidy = None if sensor is None else tidy_name(sensor)
    if tidy is not None and not is_sensor_name(tidy):
        raise InvalidRequestError(f"The parameter {refuse_sensor(tidy)[1]}")
    return tidy


def own_sensor(request: AnyRequest) -> str:
    """Return the sensor of readings that name none: the gateway of the key, else the key's label."""
    key = request.scope["state"]["api_key"]
    return getattr(key, "gateway", None) or key.label


handlers = [post_readings]
