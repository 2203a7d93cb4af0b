"""Tidegauge's own format, in JSON and MessagePack.

A body is `{"gateway"?, "readings": [...]}` or the bare list; a reading is `{"sensor", "time"?, "values", "tags"?}`.
Well-formed bodies take one typed pass and are checked as a whole. Any other is decoded loosely and checked reading by
reading, so that one bad value costs nothing but itself.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import msgspec

from app.clock import DistinctClock, to_us
from app.errors import InvalidRequestError, PayloadTooLargeError
from app.ingest.checks import (
    Refusal,
    check_datetime,
    check_tags,
    check_time,
    check_value,
    is_metric_name,
    is_sensor_name,
    refuse_metric,
    refuse_sensor,
    show,
    time_limits,
)
from app.ingest.upload import Rejected
from app.model import VALUE_LIMIT, Reading, Tags

#: More readings in one body are refused with 413, so that a sender halves its batch.
READINGS_LIMIT = 100_000
#: No clock is off by thirty thousand years.
_MILLISECONDS_LIMIT = 10**15
MSGPACK_TYPES = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


class WireReading(msgspec.Struct, gc=False):
    """One reading as it comes: time in RFC 3339 with a zone, or milliseconds since 1970; absent, the receive time."""

    sensor: str
    values: dict[str, Annotated[float, msgspec.Meta(ge=-VALUE_LIMIT, le=VALUE_LIMIT)]]
    time: datetime | int | float | None = None
    tags: dict[str, str] | None = None


class WireUpload(msgspec.Struct):
    """A batch of readings, with the name of the gateway that sends it."""

    readings: list[WireReading]
    gateway: str | None = None


Parsed = tuple[list[Reading], Rejected, str | None]
_Typed = WireUpload | list[WireReading]
_decode_json = msgspec.json.Decoder(_Typed).decode
_decode_msgpack = msgspec.msgpack.Decoder(_Typed).decode


def parse(body: bytes, media_type: str, clock: DistinctClock, received_us: int) -> Parsed:
    """Parse a body into readings and rejections; raise InvalidRequestError when it cannot be decoded at all."""
    typed, loose = (
        (_decode_msgpack, _decode_msgpack_loosely)
        if media_type in MSGPACK_TYPES
        else (_decode_json, _decode_json_loosely)
    )
    rejected = Rejected()
    stamp = _Stamp(received_us)
    try:
        upload: Any = typed(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        upload = loose(body)
        items, gateway = _open_envelope(upload)
        _check_size(items)
        readings = [
            reading
            for index, item in enumerate(items)
            if (reading := _check_reading(index, item, rejected, stamp)) is not None
        ]
    else:
        items, gateway = (upload, None) if isinstance(upload, list) else (upload.readings, upload.gateway)
        _check_size(items)
        readings = _take_typed(items, rejected, stamp)
    clock.skip_to(stamp.last_us)
    return readings, rejected, _check_gateway(gateway)


class _Stamp:
    """Gives readings without a time the receive time; the second of one sensor a microsecond later, and so on."""

    def __init__(self, received_us: int) -> None:
        self.received_us = received_us
        self.last_us = received_us
        self._next: dict[str, int] = {}

    def __call__(self, sensor: str) -> int:
        us = self._next.get(sensor, self.received_us)
        self._next[sensor] = us + 1
        self.last_us = max(self.last_us, us)
        return us


def _take_typed(items: list[WireReading], rejected: Rejected, stamp: _Stamp) -> list[Reading]:
    """Take readings whose types and values are right: all at once if all is, else one by one."""
    times_us = _in_microseconds([item.time for item in items])
    earliest, latest = time_limits(stamp.received_us)
    if times_us and earliest <= min(times_us) and max(times_us) <= latest and _are_good(items):
        return [
            Reading(item.sensor, time_us, item.values, item.tags, index)
            for index, (item, time_us) in enumerate(zip(items, times_us, strict=True))
        ]
    return [
        reading
        for index, item in enumerate(items)
        if (reading := _check_reading(index, msgspec.structs.asdict(item), rejected, stamp)) is not None
    ]


def _in_microseconds(times: list[Any]) -> list[int] | None:
    """Convert times that are all milliseconds, or all datetimes with a zone; None: they need a closer look."""
    types = set(map(type, times))
    if types == {int}:
        return [time * 1_000 for time in times]
    if types == {datetime} and None not in {time.tzinfo for time in times}:
        return list(map(to_us, times))
    return None


def _are_good(items: list[WireReading]) -> bool:
    """Tell whether all names and tags can be stored, looking at each name once."""
    metrics = set().union(*[item.values for item in items])
    return (
        all(map(is_sensor_name, {item.sensor for item in items}))
        and all(map(is_metric_name, metrics))
        and all(item.values for item in items)
        and all(check_tags(item.tags) is None for item in items if item.tags is not None)
    )


def _check_reading(index: int, item: object, rejected: Rejected, stamp: _Stamp) -> Reading | None:
    """Check one loosely decoded reading; keep its good values."""
    if not isinstance(item, dict):
        rejected.add(index, "reading_invalid", f"a reading is {item!r:.60}; send an object with sensor and values")
        return None
    sensor, values = item.get("sensor"), item.get("values")
    count = len(values) if isinstance(values, dict) else 1
    refusal = _refuse_sensor_or_values(sensor, values) or _refuse_tags(item.get("tags"))
    time_us = 0
    if refusal is None:
        checked = _time_us(item.get("time"), str(sensor), stamp)
        refusal = checked if isinstance(checked, tuple) else check_time(checked, stamp.received_us)
        time_us = 0 if isinstance(checked, tuple) else checked
    if refusal is not None:
        rejected.add(index, *refusal, values=count)
        return None
    good = _check_values(index, values, rejected)
    tags: Tags | None = item.get("tags")
    return Reading(str(sensor), time_us, good, tags, index) if good else None


def _refuse_sensor_or_values(sensor: object, values: object) -> Refusal | None:
    if not isinstance(sensor, str) or not is_sensor_name(sensor):
        return refuse_sensor(sensor)
    if not isinstance(values, dict) or not values:
        return "values_missing", f'values is {values!r:.60}; send an object such as {{"temperature": 21.5}}'
    return None


def _refuse_tags(tags: object) -> Refusal | None:
    return None if tags is None else check_tags(tags)


def _check_values(index: int, values: Any, rejected: Rejected) -> dict[str, float]:
    good = {}
    for metric, value in values.items():
        refusal = check_value(metric, value) if _is_metric(metric) else refuse_metric(metric)
        if refusal is None:
            good[metric] = float(value)
        else:
            # As it came, a refused name could be too long to repeat, or not even be text.
            rejected.add(index, *refusal, metric=metric if _is_metric(metric) else show(metric))
    return good


def _is_metric(metric: object) -> bool:
    return isinstance(metric, str) and is_metric_name(metric)


def _time_us(time: object, sensor: str, stamp: _Stamp) -> int | Refusal:
    """Convert any accepted form of time to microseconds."""
    if time is None:
        return stamp(sensor)
    if isinstance(time, datetime):
        return check_datetime(time)
    if isinstance(time, int | float) and not isinstance(time, bool):
        return _from_milliseconds(time)
    if isinstance(time, str):
        with suppress(msgspec.ValidationError):
            return check_datetime(msgspec.convert(time, datetime))
    return "time_invalid", (
        f"time is {time!r:.60}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970"
    )


def _from_milliseconds(time: float) -> int | Refusal:
    if not -_MILLISECONDS_LIMIT < time < _MILLISECONDS_LIMIT:
        return "time_invalid", f"time is {show(time)}; send milliseconds since 1970"
    return round(time * 1_000)


def _open_envelope(upload: object) -> tuple[list[Any], object]:
    if isinstance(upload, list):
        return upload, None
    if isinstance(upload, dict) and isinstance(upload.get("readings"), list):
        return upload["readings"], upload.get("gateway")
    raise InvalidRequestError(
        'The body is neither a list of readings nor {"readings": [...]}; send for example '
        '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'
    )


def _check_size(items: list[Any]) -> None:
    if len(items) > READINGS_LIMIT:
        raise PayloadTooLargeError(f"The body has {len(items)} readings; send at most {READINGS_LIMIT} at a time")


def _check_gateway(gateway: object) -> str | None:
    if gateway is None or (isinstance(gateway, str) and is_sensor_name(gateway)):
        return gateway
    raise InvalidRequestError(f"gateway is {gateway!r:.60}; send a text of 1 to 200 printable characters")


def _decode_json_loosely(body: bytes) -> object:
    """Decode JSON with the standard library, which reads the NaN and Infinity that many senders write."""
    return _explain_failure("JSON", json.loads, body)


def _decode_msgpack_loosely(body: bytes) -> object:
    return _explain_failure("MessagePack", msgspec.msgpack.decode, body)


def _explain_failure(name: str, decode: Callable[[bytes], object], body: bytes) -> object:
    try:
        return decode(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid {name}: {error}") from None
