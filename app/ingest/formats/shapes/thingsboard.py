"""Telemetry as clients of ThingsBoard send it: `{"ts", "values"}`, a list of these, or lists of them by device.

`ts` counts milliseconds. As ThingsBoard does, a text that is a number is taken as one; other texts are left out.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from app.errors import InvalidRequestError
from app.hints import find_meant
from app.ingest.bodies.document import Document, Listing
from app.ingest.formats.shapes import Items, Shape, Source
from app.ingest.formats.shapes._fields import keep_numbers, refuse_misspelt, refuse_repeated
from app.ingest.formats.shapes._items import OTHER_NAMES as READING_NAMES
from app.ingest.formats.shapes._items import refuse_item
from app.names import show

_FIELDS: Final = ("ts", "values")
_OTHER_NAMES: Final = dict.fromkeys(("time", "timestamp", "date", "datetime", "epoch"), "ts")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]{0,300})?(?:[eE][+-]?[0-9]{1,3})?")


def fits(document: Document) -> bool:
    """Return whether it is an entry, a list that begins with one, or an object of nothing but lists of objects."""
    if document.items is not None:
        return _is_entry(document.items.first)
    names = document.names or ()
    if "ts" in names and "values" in names:
        return "sensor" not in names and document.list_of("values") is None
    listings = [document.list_of(name) for name in names]
    has_entry = any(each is not None and _is_entry(each.first) for each in listings)
    return has_entry and all(map(_may_be_device, names, listings))


def _is_entry(item: object) -> bool:
    return isinstance(item, dict) and "ts" in item and "values" in item and "sensor" not in item


def _may_be_device(name: str, listing: Listing | None) -> bool:
    """Return whether a field has the entries of a device, or none, and is no list of another shape, even misspelt."""
    return (
        listing is not None
        and (_is_entry(listing.first) or listing.first is None)
        and find_meant(name, ("readings", "metrics")) is None
    )


def read(document: Document, source: Source) -> Items:
    """Yield a reading for each entry; its place is that among all entries of the body."""
    for index, (sensor, entry) in enumerate(_entries(document, source)):
        reading = as_reading(sensor, entry, source)
        if reading is not None:
            yield index, reading


def _entries(document: Document, source: Source) -> Iterator[tuple[str, object]]:
    if document.items is not None:
        yield from ((source.sensor, entry) for entry in document.items.items())
    elif "ts" in (document.names or ()):
        yield source.sensor, document.as_object()
    else:
        for device in document.names or ():
            listing = document.list_of(device)
            yield from ((device, entry) for entry in (listing.items() if listing is not None else ()))


def read_device(document: Document, source: Source) -> Items:
    """Yield the readings of a device, which may also send nothing but values; raise InvalidRequestError."""
    if fits(document):
        yield from read(document, source)
        return
    if document.items is None and document.names is None:
        raise InvalidRequestError('The body is no telemetry; send for example {"temperature": 12.5}')
    items = [document.as_object()] if document.items is None else document.items.items()
    for index, item in enumerate(items):
        entry = item if not isinstance(item, dict) or "ts" in item else {"values": item}
        reading = as_reading(source.sensor, entry, source)
        if reading is not None:
            yield index, reading


def as_reading(sensor: str, entry: Any, source: Source) -> object:
    """Return an entry as a reading, None if it has no value that is a number."""
    if not isinstance(entry, dict) or not isinstance(values := entry.get("values"), dict):
        return refuse_item(f"an entry is {show(entry)}; send an object with ts and values")
    if (refused := refuse_repeated(entry, values)) is not None:
        return refused
    naming = next((name for name in entry if _names_sensor(name)), None)
    if naming is not None:
        return refuse_item(
            f"an entry has no field {show(naming)}; name the sensor by the parameter sensor, or send lists of entries "
            "by device",
            "field_unknown",
        )
    if (refused := refuse_misspelt(entry, _FIELDS, _OTHER_NAMES, source)) is not None:
        return refused
    numbers = keep_numbers({name: _as_number(value) for name, value in values.items()})
    if values and not numbers:
        return None
    return {"sensor": sensor, "time": entry.get("ts"), "values": numbers}


def _names_sensor(name: object) -> bool:
    return isinstance(name, str) and find_meant(name, ("sensor",), READING_NAMES) is not None


def _as_number(value: object) -> object:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


SHAPE: Final = Shape(
    example={"ts": 1_769_846_400_000, "values": {"temperature": 12.5, "humidity": 61}},
    fits=fits,
    read=read,
    fields=_FIELDS,
)
