"""The check of readings one by one, so that one bad value does not cost others."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from app.hints import find_meant
from app.ingest.bodies.loose_json import Repeated
from app.ingest.bodies.pieces import check_count, check_value_count
from app.ingest.checks import (
    Refusal,
    check_value,
    keep_tags,
    read_time,
    refuse_metric,
    refuse_sensor,
)
from app.ingest.formats.shapes import Items, Source, Units
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import RejectionCode
from app.model import MetricName, Reading
from app.names import are_metric_names, explain_units, is_metric_name, is_sensor_name, show, tidy_name

FIELDS: Final = ("sensor", "time", "values", "tags", "unit", "units")
#: What others call the fields, in lower case without separators.
OTHER_NAMES: Final = {
    **dict.fromkeys(("ts", "timestamp", "date", "datetime", "at", "when", "epoch", "measuredat", "recordedat"), "time"),
    **dict.fromkeys(("device", "deviceid", "sensorid", "sensorname", "node"), "sensor"),
    **dict.fromkeys(("fields", "measurements", "metrics", "data", "readings"), "values"),
    **dict.fromkeys(("labels", "attributes"), "tags"),
}
#: Values of readings that are checked before they are made columns.
_VALUES_AT_ONCE: Final = 10_000


class Instant(int):
    """A time in microseconds since 1970, in place of a reading's time in milliseconds."""


def check_items(items: Items, source: Source) -> Iterator[Readings]:
    """Check readings, and yield those that have a value to store, in parts; raise PayloadTooLargeError."""
    checked: list[Reading] = []
    value_count = waiting = 0
    for reading_count, (index, item) in enumerate(items, 1):
        check_count(reading_count)
        reading = _check_item(index, item, source)
        if reading is not None:
            checked.append(reading)
            waiting += len(reading.values)
        if waiting >= _VALUES_AT_ONCE:
            value_count += waiting
            yield Readings.of(checked)
            checked, waiting = [], 0
        check_value_count(value_count + waiting + source.rejected.count)
    yield Readings.of(checked)


def _check_item(index: int, item: object, source: Source) -> Reading | None:
    """Return a reading with its valid values, or None if it has none; add its refusals."""
    if isinstance(item, _Refused):
        source.rejected.add(index, *item.refusal)
        return None
    if not isinstance(item, dict):
        message = f"a reading is {show(item)}; send an object with sensor and values"
        source.rejected.add(index, "reading_invalid", message)
        return None
    refusal = _refuse_fields(item, source) or _refuse_repeated(item)
    sensor = item.get("sensor") if "sensor" in item else source.asked_sensor
    sensor = tidy_name(sensor) if isinstance(sensor, str) else sensor
    refusal = refusal or _refuse_sensor_or_values(sensor, item)
    time_us = 0
    if refusal is None:
        time_us, refusal = _time_us(item.get("time"), str(sensor), source)
    if refusal is not None:
        source.rejected.add(index, *refusal)
        return None
    good = _check_values(index, item["values"], source)
    if not good:
        return None
    tags = keep_tags(index, item.get("tags"), source.rejected)
    unit, units = _keep_unit(index, item.get("unit"), source), keep_units(index, item.get("units"), source)
    own = merge_units(good, unit, units, source.units)
    return Reading(str(sensor), time_us, good, tags, index, own)


class _Refused:
    """The reason for having no reading, in place of the reading."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def refuse_item(message: str, code: RejectionCode = "reading_invalid") -> object:
    """Return what stands for a reading that cannot even be read."""
    return _Refused((code, message))


def _refuse_fields(item: dict[Any, Any], source: Source) -> Refusal | None:
    """Return the refusal of a reading with a misspelt field; count other fields that no reading has."""
    for name in item.keys() - _KNOWN:
        meant = _find_meant(name) if isinstance(name, str) and len(name) <= 100 else None
        if meant is not None and meant not in item:
            return "field_unknown", f"a reading has no field {show(name)}; did you mean {meant}?"
        source.rejected.add_unknown_field(show(name))
    return None


_KNOWN: Final = frozenset(FIELDS)


@lru_cache(maxsize=1_000)
def _find_meant(name: str) -> str | None:
    return find_meant(name, FIELDS, OTHER_NAMES)


def _refuse_repeated(item: dict[Any, Any]) -> Refusal | None:
    for place, value in (("a reading", item), *((name, item.get(name)) for name in ("values", "tags", "units"))):
        if isinstance(value, Repeated):
            return "key_repeated", f"{place} has the key {show(value.repeated_key)} twice; send it once"
    return None


def _refuse_sensor_or_values(sensor: object, item: dict[Any, Any]) -> Refusal | None:
    if not isinstance(sensor, str) or not is_sensor_name(sensor):
        return refuse_sensor(sensor)
    values = item.get("values")
    if isinstance(values, dict) and values:
        return None
    outside = [name for name in item.keys() - _KNOWN if isinstance(item[name], int | float)]
    example = (
        f'put {show(outside[0])} into it, as in {{"values": {{"temperature": 21.5}}}}'
        if outside and "values" not in item
        else 'send an object such as {"temperature": 21.5}'
    )
    return "values_missing", f"values is {show(values)}; {example}"


def _keep_unit(index: int, unit: Any, source: Source) -> str | None:
    """Return the unit of all values of a reading; one that cannot be stored is refused alone."""
    reason = None if unit is None else explain_units({"every value": unit})
    if reason is None:
        return unit  # type: ignore[no-any-return]
    source.rejected.add_unit(index, reason, None)
    return None


def keep_units(index: int, units: Any, source: Source) -> Units:
    """Return the units that can be stored, by metrics named as they are stored; the others are refused one by one."""
    if units is None:
        return None
    if not isinstance(units, dict):
        source.rejected.add_unit(index, f'units is {show(units)}; send an object such as {{"temperature": "°C"}}', None)
        return None
    kept: dict[str, str | None] = {}
    for metric, unit in units.items():
        reason = explain_units({metric: unit})
        if reason is not None:
            source.rejected.add_unit(index, reason, metric if is_metric_name(metric) else show(metric))
        elif isinstance(metric, str):
            kept[tidy_name(metric)] = unit
    return kept


def _time_us(time: object, sensor: str, source: Source) -> tuple[int, Refusal | None]:
    if time is None and source.outer_time is not None:
        message = f"the reading has no time, and the body has {show(source.outer_time)}; put the time into each reading"
        return 0, ("field_unknown", message)
    if time is None:
        return source.times.give(sensor), None
    read = int(time) if isinstance(time, Instant) else read_time(time)
    return (0, read) if isinstance(read, tuple) else (read, source.times.check(read))


def _check_values(index: int, values: dict[Any, Any], source: Source) -> dict[MetricName, float]:
    good: dict[MetricName, float] = {}
    for name, value in values.items():
        metric = tidy_name(name) if isinstance(name, str) else name
        is_metric = isinstance(metric, str) and is_metric_name(metric)
        refusal = check_value(metric, value) if is_metric else refuse_metric(metric)
        if refusal is None and metric in good:
            refusal = "metric_invalid", f"the metric is named {show(name)}, and so is another value; leave one out"
        if refusal is None:
            good[metric] = float(value)
        else:
            # A refused name is shortened, because it may be very long or not even text.
            source.rejected.add(index, *refusal, metric=metric if is_metric else show(metric))
    return good


def are_units(units: Units) -> bool:
    """Return whether these are units, by metrics named as they are stored."""
    return units is None or (explain_units(units) is None and are_metric_names(units.keys()))


def merge_units(
    values: dict[MetricName, float], unit: str | None, units: Units, of_all: Units
) -> dict[str, str] | None:
    """Return the units that an upload gives for the values: by metric, for the reading, by metric for all readings."""
    if unit is None and not units and not of_all:
        return None
    units, of_all = units or {}, of_all or {}
    given = {metric: units.get(metric) or unit or of_all.get(metric) for metric in values}
    return {metric: text for metric, text in given.items() if text is not None}
