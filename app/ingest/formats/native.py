"""Tidegauge's own format, in JSON and MessagePack.

A body is `{"gateway"?, "units"?, "readings": [...]}` or the list alone; a reading is
`{"sensor", "time"?, "values", "tags"?, "unit"?, "units"?}`.
A body whose types are all right is decoded into structs and checked as a whole. Any other body is decoded without
types and checked reading by reading, so that one bad value does not reject others.
"""

import json
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, NamedTuple, cast, overload

import msgspec
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import require
from app.clock import to_us
from app.errors import InvalidRequestError
from app.ingest.bodies.pieces import Body, NotReadingsError, check_count, check_value_count, split_json, split_msgpack
from app.ingest.checks import (
    Refusal,
    check_datetime,
    check_tags,
    check_units,
    check_value,
    refuse_metric,
    refuse_sensor,
    time_limits,
)
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats._native_body import ReadingsOperation
from app.ingest.intake import AnyRequest, Ingest, UploadRoute
from app.ingest.upload import Readings, Receipt, Rejected, Series, collect_readings, encode_series
from app.model import VALUE_LIMIT, Reading, Tags
from app.names import (
    are_metric_names,
    are_sensor_names,
    explain_units,
    is_metric_name,
    is_sensor_name,
    is_unit,
    show,
)
from app.problems import problem_responses

#: A larger body is decoded in pieces.
WHOLE_BYTES = 2**20
#: Greater times, beyond thirty thousand years, are rejected before the conversion to microseconds.
_MILLISECONDS_LIMIT = 10**15
MSGPACK_TYPES = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


class ReadingBody(msgspec.Struct, gc=False):
    """A reading as sent. `time` is RFC 3339 with a zone or milliseconds since 1970; without it, the time of receipt."""

    sensor: str
    values: dict[str, Annotated[float, msgspec.Meta(ge=-VALUE_LIMIT, le=VALUE_LIMIT)]]
    #: A text is parsed later, because many readings of a batch share one.
    time: Any = None
    tags: dict[str, str] | None = None
    #: The unit of all values, and units by metric, which go before it.
    unit: str | None = None
    units: dict[str, str | None] | None = None


class UploadBody(msgspec.Struct):
    """A batch of readings, with the name of the gateway that sent it, and units by metric for all of them."""

    readings: list[ReadingBody]
    gateway: str | None = None
    units: dict[str, str | None] | None = None


Values = dict[str, float]
#: Units by metric; a null is as good as none.
Units = dict[str, str | None] | None
_Typed = UploadBody | list[ReadingBody]


class _Coding(NamedTuple):
    """JSON or MessagePack: its decoders of a whole body and of a piece of one, by type and without types."""

    name: str
    typed: Callable[[bytes], Any]
    typed_piece: Callable[[bytes], list[ReadingBody]]
    loose: Callable[[bytes], Any]
    split: Callable[[bytes], Body]


#: The standard library accepts the NaN and Infinity that many senders write.
_JSON = _Coding(
    "JSON",
    msgspec.json.Decoder(_Typed).decode,
    msgspec.json.Decoder(list[ReadingBody]).decode,
    json.loads,
    split_json,
)
_MSGPACK = _Coding(
    "MessagePack",
    msgspec.msgpack.Decoder(_Typed).decode,
    msgspec.msgpack.Decoder(list[ReadingBody]).decode,
    msgspec.msgpack.decode,
    split_msgpack,
)


def parse(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed:
    """Return the readings and rejections of a body; a large one is decoded in pieces, and runs in a thread.

    Raise InvalidRequestError if it cannot be decoded, PayloadTooLargeError if it has too many readings or values.
    """
    coding = _coding(media_type)
    if len(body) > WHOLE_BYTES:
        return _parse_pieces(coding, body, times)
    typed = _decode_typed(coding.typed, body)
    if typed is not None:
        return _take_upload(typed, times)
    items, gateway, units = _open_envelope(_decode_loosely(coding, body))
    check_count(len(items))
    rejected = Rejected()
    readings = check_readings(items, rejected, times, _check_envelope_units(units))
    return Parsed(readings, rejected, _check_gateway(gateway))


def parse_good(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed | None:
    """Return the readings of a body of at most WHOLE_BYTES in which all is right, quickly; None for any other."""
    typed = _decode_typed(_coding(media_type).typed, body)
    return None if typed is None else _take_upload(typed, times, only_good=True)


def _coding(media_type: str) -> _Coding:
    return _MSGPACK if media_type in MSGPACK_TYPES else _JSON


def _decode_typed(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Return what is decoded, or None where a type is wrong or the body is broken."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


@overload
def _take_upload(upload: UploadBody | list[ReadingBody], times: ReceiptTimes) -> Parsed: ...
@overload
def _take_upload(upload: UploadBody | list[ReadingBody], times: ReceiptTimes, *, only_good: bool) -> Parsed | None: ...
def _take_upload(
    upload: UploadBody | list[ReadingBody], times: ReceiptTimes, *, only_good: bool = False
) -> Parsed | None:
    items, gateway, units = (
        (upload, None, None) if isinstance(upload, list) else (upload.readings, upload.gateway, upload.units)
    )
    check_count(len(items))
    units = _check_envelope_units(units)
    rejected = Rejected()
    times.expect(len(items))
    readings = _take_good(items, times, units)
    if readings is None:
        if only_good:
            return None
        readings = check_readings(map(msgspec.structs.asdict, items), rejected, times, units)
    return Parsed(readings, rejected, _check_gateway(gateway))


def _parse_pieces(coding: _Coding, body: bytes, times: ReceiptTimes) -> Parsed:
    """Parse a body piece by piece; each piece is forgotten before the next one is decoded."""
    try:
        split = coding.split(body)
    except NotReadingsError:
        raise _not_readings() from None
    gateway, units = (
        None if field is None else _decode_loosely(coding, field) for field in (split.gateway, split.units)
    )
    units = _check_envelope_units(units)
    rejected = Rejected()
    parts: list[Readings] = []
    reading_count = value_count = 0
    for piece in split.pieces:
        count, readings = _parse_piece(coding, piece, reading_count, rejected, times, units)
        parts.append(readings)
        reading_count += count
        value_count += len(readings.values)
        check_count(reading_count)
        check_value_count(value_count + rejected.count)
    return Parsed(Readings.join(parts), rejected, _check_gateway(gateway))


def _parse_piece(
    coding: _Coding, piece: bytes, start: int, rejected: Rejected, times: ReceiptTimes, units: Units
) -> tuple[int, Readings]:
    """Return the number of readings of a piece, which begins at position `start` of the body, and the good ones."""
    typed = _decode_typed(coding.typed_piece, piece)
    items: Any = _decode_loosely(coding, piece) if typed is None else typed
    check_count(start + len(items))
    times.expect(len(items))
    readings = None if typed is None else _take_good(typed, times, units, start)
    if readings is None:
        loose = items if typed is None else map(msgspec.structs.asdict, typed)
        readings = check_readings(loose, rejected, times, units, start)
    return len(items), readings


def _take_good(items: list[ReadingBody], times: ReceiptTimes, units: Units, start: int = 0) -> Readings | None:
    """Return the readings of items with the right types if all are valid, else None."""
    sensors, values = [item.sensor for item in items], [item.values for item in items]
    described = [
        item for item in items if units or item.tags is not None or item.unit is not None or item.units is not None
    ]
    encoded = encode_series(sensors, values)
    if all(values) and _are_good(encoded[0], described) and (times_us := _times_us(items, times)):
        readings = _describe(items, times_us, units, start) if described else ()
        return collect_readings(encoded, times_us, values, range(start, start + len(items)), readings)
    return None


def _are_good(series: list[Series], described: list[ReadingBody]) -> bool:
    """Return whether all names, tags and units can be stored; each name is checked once."""
    return (
        are_sensor_names({sensor for sensor, _ in series})
        and are_metric_names({metric for _, metric in series})
        and all(check_tags(item.tags) is None for item in described if item.tags is not None)
        and all(map(is_unit, {item.unit for item in described if item.unit is not None}))
        and all(check_units(item.units) is None for item in described if item.units is not None)
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
        if (own := _units(item.values, item.unit, item.units, units)) is not None or item.tags is not None
    ]


def check_readings(
    items: Iterable[object], rejected: Rejected, times: ReceiptTimes, units: Units, start: int = 0
) -> Readings:
    """Check items one by one, and return the readings of those that have a value to store."""
    checked = (_check_reading(index, item, rejected, times, units) for index, item in enumerate(items, start))
    return Readings.of([reading for reading in checked if reading is not None])


def _units(values: Values, unit: str | None, units: Units, of_all: Units) -> dict[str, str] | None:
    """Return the units that an upload gives for the values: by metric, for the reading, by metric for all readings."""
    if unit is None and not units and not of_all:
        return None
    units, of_all = units or {}, of_all or {}
    given = {metric: units.get(metric) or unit or of_all.get(metric) for metric in values}
    return {metric: text for metric, text in given.items() if text is not None}


def _check_reading(index: int, item: object, rejected: Rejected, times: ReceiptTimes, units: Units) -> Reading | None:
    """Return a reading with its valid values, or None if it has none; add its rejections."""
    if not isinstance(item, dict):
        rejected.add(index, "reading_invalid", f"a reading is {show(item)}; send an object with sensor and values")
        return None
    sensor, values = item.get("sensor"), item.get("values")
    count = len(values) if isinstance(values, dict) else 1
    refusal = (
        _refuse_sensor_or_values(sensor, values)
        or _refuse_tags(item.get("tags"))
        or _refuse_units(item.get("unit"), item.get("units"))
    )
    time_us = 0
    if refusal is None:
        checked = _time_us(item.get("time"), str(sensor), times)
        refusal = checked if isinstance(checked, tuple) else times.check(checked)
        time_us = 0 if isinstance(checked, tuple) else checked
    if refusal is not None:
        rejected.add(index, *refusal, values=count)
        return None
    good = _check_values(index, values, rejected)
    tags: Tags | None = item.get("tags")
    own = _units(good, item.get("unit"), item.get("units"), units)
    return Reading(str(sensor), time_us, good, tags, index, own) if good else None


def _refuse_sensor_or_values(sensor: object, values: object) -> Refusal | None:
    if not isinstance(sensor, str) or not is_sensor_name(sensor):
        return refuse_sensor(sensor)
    if not isinstance(values, dict) or not values:
        return "values_missing", f'values is {show(values)}; send an object such as {{"temperature": 21.5}}'
    return None


def _refuse_tags(tags: object) -> Refusal | None:
    return None if tags is None else check_tags(tags)


def _refuse_units(unit: object, units: object) -> Refusal | None:
    return (None if unit is None else check_units({"every value": unit})) or (
        None if units is None else check_units(units)
    )


def _check_values(index: int, values: Any, rejected: Rejected) -> dict[str, float]:
    good = {}
    for metric, value in values.items():
        refusal = check_value(metric, value) if _is_metric(metric) else refuse_metric(metric)
        if refusal is None:
            good[metric] = float(value)
        else:
            # A refused name is shortened, because it may be very long or not even text.
            rejected.add(index, *refusal, metric=metric if _is_metric(metric) else show(metric))
    return good


def _is_metric(metric: object) -> bool:
    return isinstance(metric, str) and is_metric_name(metric)


def _time_us(time: object, sensor: str, times: ReceiptTimes) -> int | Refusal:
    """Return a time of any accepted form in microseconds since 1970, or a refusal."""
    if time is None:
        return times.give(sensor)
    if isinstance(time, datetime):
        return check_datetime(time)
    if isinstance(time, int | float) and not isinstance(time, bool):
        return _from_milliseconds(time)
    if isinstance(time, str):
        with suppress(msgspec.ValidationError, UnicodeEncodeError):
            return check_datetime(msgspec.convert(time, datetime))
    return "time_invalid", (
        f"time is {show(time)}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970"
    )


def _from_milliseconds(time: float) -> int | Refusal:
    if not -_MILLISECONDS_LIMIT < time < _MILLISECONDS_LIMIT:
        return "time_invalid", f"time is {show(time)}; send milliseconds since 1970"
    return round(time * 1_000)


def _open_envelope(upload: object) -> tuple[list[Any], object, object]:
    """Return the readings, the gateway and the units of a body, not checked yet."""
    if isinstance(upload, list):
        return upload, None, None
    if isinstance(upload, dict) and isinstance(upload.get("readings"), list):
        return upload["readings"], upload.get("gateway"), upload.get("units")
    raise _not_readings()


def _not_readings() -> InvalidRequestError:
    return InvalidRequestError(
        'The body is neither a list of readings nor {"readings": [...]}; send for example '
        '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'
    )


def _check_gateway(gateway: object) -> str | None:
    if gateway is None or (isinstance(gateway, str) and is_sensor_name(gateway)):
        return gateway
    raise InvalidRequestError(f"gateway is {gateway!r:.60}; send a text of 1 to 200 printable characters")


def _check_envelope_units(units: object) -> Units:
    if units is not None and (reason := explain_units(units)) is not None:
        raise InvalidRequestError(reason)
    return cast("Units", units)


def _decode_loosely(coding: _Coding, body: bytes) -> Any:
    try:
        return coding.loose(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid {coding.name}: {error}") from None


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
async def post_readings(request: AnyRequest, ingest: NamedDependency[Ingest]) -> Receipt:
    """Store readings. Sending the same ones again is safe: they are counted as duplicates.

    Bad values are rejected one by one, with a code and a message that says what to send instead; the others are
    stored. The answer is 200 even then, so that a sender does not repeat values that can never be stored.
    """
    return await ingest.take(request, parse, parse_good)


handlers = [post_readings]
