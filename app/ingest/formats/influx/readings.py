"""Readings from line protocol: which sensor and metric a field belongs to, and which fields cannot be stored.

The metric is `measurement_field`, or the measurement alone if the field is named `value`.
"""

from array import array
from math import isnan, nan
from typing import Final, NamedTuple, overload

import numpy as np

from app.ingest.bodies.pieces import check_count, check_value_count
from app.ingest.checks import (
    EXACT_LIMIT,
    Refusal,
    check_tags,
    check_value,
    refuse_metric,
    refuse_sensor,
    show_time,
    time_limits,
)
from app.ingest.formats import Parsed, ReceiptTimes
from app.ingest.formats._tags import Origin, find_origin
from app.ingest.formats.influx.columns import Columns, Ints, read_alike, read_columns
from app.ingest.formats.influx.lines import decode, read_head
from app.ingest.uploads.readings import Readings, Series
from app.ingest.uploads.receipt import Rejected
from app.model import Reading
from app.names import is_metric_name, is_sensor_name, tidy_name

#: Nanoseconds of each unit that times may have, by the names of both versions of the interface.
UNITS_NS: Final = {
    "n": 1,
    "ns": 1,
    "u": 1_000,
    "us": 1_000,
    "µ": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
#: Times are kept within this, far beyond what can be stored.
_MOST_US: Final = 2**62


class _Named(NamedTuple):
    """The series of a field, or why it has none."""

    series: Series
    refusal: Refusal | None


def parse(body: bytes, times: ReceiptTimes, unit_ns: int) -> Parsed:
    """Return the readings and rejections of a body whose times count `unit_ns`.

    Raise MalformedLineError, and PayloadTooLargeError for too many lines or fields.
    """
    rejected = Rejected()
    parts: list[Readings] = []
    field_count = 0
    for columns in read_columns(decode(body)):
        field_count += len(columns.codes)
        check_value_count(field_count)
        if field_count:
            check_count(int(columns.lines.max(initial=0)) + 1)
            parts.append(_parse_part(columns, times, unit_ns, rejected))
    return Parsed(Readings.join(parts), rejected)


def parse_good(body: bytes, times: ReceiptTimes, unit_ns: int) -> Parsed | None:
    """Return the readings of a body if its lines are alike and all is right in them, quickly; else None."""
    columns = read_alike(decode(body))
    if columns is None:
        return None
    check_count(int(columns.lines[-1]) + 1)
    rejected = Rejected()
    readings = _parse_part(columns, times, unit_ns, rejected, only_good=True)
    return None if readings is None else Parsed(readings, rejected)


@overload
def _parse_part(columns: Columns, times: ReceiptTimes, unit_ns: int, rejected: Rejected) -> Readings: ...
@overload
def _parse_part(
    columns: Columns, times: ReceiptTimes, unit_ns: int, rejected: Rejected, *, only_good: bool
) -> Readings | None: ...
def _parse_part(
    columns: Columns, times: ReceiptTimes, unit_ns: int, rejected: Rejected, *, only_good: bool = False
) -> Readings | None:
    times.expect(len(columns.codes))
    heads = {head: read_head(head) for head in {head for head, _ in columns.pairs}}
    origins = {head: find_origin(*read) for head, read in heads.items()}
    named = [_name(heads[head].measurement, key, origins[head]) for head, key in columns.pairs]
    times_us = _times_us(columns, origins, times, unit_ns)
    if not _are_good(columns, times_us, named, times.received_us):
        if only_good:
            return None
        kept = _list_good(columns, times_us, named, times, rejected)
        columns, times_us = _keep(columns, kept), times_us[kept]
    return _collect(columns, times_us, named, origins)


def _name(measurement: str, key: str, origin: Origin) -> _Named:
    metric = tidy_name(measurement if key == "value" else f"{measurement}_{key}")
    refusal = check_tags(origin.tags)
    if not is_sensor_name(origin.sensor):
        refusal = refuse_sensor(origin.sensor)
    elif not is_metric_name(metric):
        refusal = refuse_metric(metric)
    return _Named((origin.sensor, metric), refusal)


def _times_us(columns: Columns, origins: dict[str, Origin], times: ReceiptTimes, unit_ns: int) -> Ints:
    """Return the times in microseconds; the fields of a line without one get a time of receipt."""
    given = columns.times
    if not isinstance(given, list):
        return _scale(given, unit_ns)
    times_us = _scale(np.array([moment or 0 for moment in given], np.int64), unit_ns)
    received: dict[int, int] = {}
    for row in [row for row, moment in enumerate(given) if moment is None]:
        line = int(columns.lines[row])
        if line not in received:
            received[line] = times.give(origins[columns.pairs[columns.codes[row]][0]].sensor)
        times_us[row] = received[line]
    return times_us


def _scale(moments: Ints, unit_ns: int) -> Ints:
    """Return times in microseconds; those that would not fit into 64 bits are as far from now as fits."""
    if unit_ns % 1_000:
        return moments // (1_000 // unit_ns)
    factor = unit_ns // 1_000
    return np.clip(moments, -_MOST_US // factor, _MOST_US // factor) * factor


def _are_good(columns: Columns, times_us: Ints, named: list[_Named], received_us: int) -> bool:
    """Return whether all fields can be stored."""
    if not len(times_us):
        return True
    earliest, latest = time_limits(received_us)
    values = columns.values
    if isinstance(values, list):
        # With NaN, the least and the greatest value depend on the order.
        lowest, highest = (nan, nan) if isnan(sum(values)) else (min(values), max(values))
    else:
        lowest, highest = values.min(), values.max()
    return bool(
        all(each.refusal is None for each in named)
        and earliest <= times_us.min()
        and times_us.max() <= latest
        and lowest >= -EXACT_LIMIT
        and highest <= EXACT_LIMIT
    )


def _list_good(
    columns: Columns, times_us: Ints, named: list[_Named], times: ReceiptTimes, rejected: Rejected
) -> list[int]:
    """Return the rows that can be stored, and add the rejections of the others."""
    kept = []
    values = columns.values if isinstance(columns.values, list) else columns.values.tolist()
    rows = zip(columns.codes.tolist(), columns.lines.tolist(), values, times_us.tolist(), strict=True)
    for row, (code, line, value, time_us) in enumerate(rows):
        key = columns.pairs[code][1]
        refusal = named[code].refusal or _refuse_value(key, value) or _refuse_time(time_us, times)
        if refusal is None:
            kept.append(row)
        else:
            rejected.add(line, *refusal, metric=key if is_metric_name(key) else None)
    return kept


def _refuse_value(key: str, value: float) -> Refusal | None:
    return None if isinstance(value, bool) else check_value(key, value)


def _refuse_time(time_us: int, times: ReceiptTimes) -> Refusal | None:
    refusal = times.check(time_us)
    if refusal is None or times.received_us // 100 < time_us < times.received_us * 100:
        return refusal
    return refusal[0], f"time is {show_time(time_us)}; is the parameter precision, by default ns, that of the times?"


def _keep(columns: Columns, rows: list[int]) -> Columns:
    """Return some of the rows, without their times."""
    values = columns.values
    kept = [values[row] for row in rows] if isinstance(values, list) else values[rows]
    return Columns(columns.pairs, columns.codes[rows], columns.lines[rows], kept, [])


def _collect(columns: Columns, times_us: Ints, named: list[_Named], origins: dict[str, Origin]) -> Readings:
    """Return the fields as readings. Of each sensor with tags, one reading describes it: the last."""
    places: dict[Series, int] = {}
    of_pairs = np.zeros(len(named), np.int64)
    for code in np.flatnonzero(np.bincount(columns.codes, minlength=len(named))).tolist():
        of_pairs[code] = places.setdefault(named[code].series, len(places))
    values = columns.values
    return Readings(
        list(places),
        array("q", of_pairs[columns.codes].tobytes()),
        array("q", times_us.tobytes()),
        array("d", values if isinstance(values, list) else values.tobytes()),
        columns.lines.tolist(),
        [
            Reading(origins[head].sensor, int(times_us[row]), {}, origins[head].tags, int(columns.lines[row]))
            for head, row in _last_rows(columns, origins).items()
        ],
    )


def _last_rows(columns: Columns, origins: dict[str, Origin]) -> dict[str, int]:
    """Return the last row of each head that has tags beside the one that names the sensor."""
    if not any(origin.tags for origin in origins.values()):
        return {}
    last = np.full(len(columns.pairs), -1, np.int64)
    np.maximum.at(last, columns.codes, np.arange(len(columns.codes)))
    rows: dict[str, int] = {}
    for (head, _), row in zip(columns.pairs, last.tolist(), strict=True):
        if row >= 0 and origins[head].tags:
            rows[head] = max(row, rows.get(head, row))
    return rows
