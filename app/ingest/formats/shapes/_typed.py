"""Tidegauge's own shape, decoded by type and checked as a whole: the quick way for bodies in which all is right."""

from collections.abc import Callable, Collection
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np

from app.clock import to_us
from app.ingest.bodies.document import JSON, MESSAGE_PACK, Coding
from app.ingest.bodies.msgpack_pieces import repeats_key
from app.ingest.bodies.pieces import check_count
from app.ingest.checks import EXACT_LIMIT, time_limits
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats.shapes import Units
from app.ingest.formats.shapes._items import are_units, merge_units
from app.ingest.uploads.readings import Readings, Series, collect_readings, encode_series
from app.ingest.uploads.receipt import Rejected
from app.model import Reading
from app.names import are_metric_names, are_sensor_names, explain_tags, is_sensor_name, is_unit

#: The quotes of a longer body are counted by numpy.
_LONG_BYTES: Final = 4_096


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


def take_good(body: bytes, coding: Coding, times: ReceiptTimes) -> Parsed | None:
    """Return the readings of a body, None if it is of another shape or something has to be looked at more closely."""
    upload = _decode(_BY_TYPE[coding.name].whole, body)
    if upload is None:
        return None
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


def take_good_piece(piece: bytes, coding: Coding, times: ReceiptTimes, units: Units, start: int) -> Readings | None:
    """Return the readings of a list, which begins at position `start` of the body, or None as above."""
    items = _decode(_BY_TYPE[coding.name].piece, piece)
    if items is None:
        return None
    check_count(start + len(items))
    times.expect(len(items))
    return _take_good(items, times, units, piece, coding, start)


def _decode(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Return the decoded value, or None if a type is wrong or the body is broken."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


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
        and (coding is JSON or not repeats_key(encoded_items))
        and (times_us := _times_us(items, times))  # the last one: it may give times away
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
