"""Parts that the objects of several shapes share: names of fields, a gateway, and values of which some are texts."""

from collections.abc import Collection, Mapping
from typing import Any

from app.errors import InvalidRequestError
from app.hints import find_meant
from app.ingest.bodies.document import Document
from app.ingest.bodies.loose_json import Repeated
from app.ingest.formats.shapes import Source
from app.ingest.formats.shapes._items import Instant, refuse_item
from app.names import is_sensor_name, show, tidy_name

#: Numbers of more digits count no unit of time.
_TIME_LIMIT = 10**20


def check_names(document: Document, fields: Collection[str], other_names: Mapping[str, str], source: Source) -> None:
    """Raise InvalidRequestError for a misspelt field of a body; count the others that are no fields of its shape."""
    names = document.names or ()
    for name in names:
        if name in fields:
            continue
        meant = find_meant(name, fields, other_names)
        if meant is not None and meant not in names:
            raise InvalidRequestError(f"The body has the field {show(name)}, which is unknown; did you mean {meant}?")
        source.rejected.add_unknown_field(show(name))


def check_gateway(gateway: object) -> str | None:
    """Return the name of a gateway as it is stored; raise InvalidRequestError."""
    tidy = tidy_name(gateway) if isinstance(gateway, str) else gateway
    if tidy is None or (isinstance(tidy, str) and is_sensor_name(tidy)):
        return tidy
    raise InvalidRequestError(f"gateway is {gateway!r:.60}; send a text of 1 to 200 printable characters")


def keep_numbers(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return values without texts, nulls, lists and objects; booleans become 1 and 0. What is no JSON stays."""
    return {
        name: float(value) if isinstance(value, bool) else value
        for name, value in values.items()
        if value is not None and not isinstance(value, str | list | dict)
    }


def refuse_repeated(*objects: object) -> object | None:
    """Return what stands for a reading if a key stands twice in one of its objects, else None."""
    for each in objects:
        if isinstance(each, Repeated):
            return refuse_item(f"an object has the key {show(each.repeated_key)} twice; send it once", "key_repeated")
    return None


def refuse_misspelt(
    item: Mapping[Any, Any], fields: Collection[str], other_names: Mapping[str, str], source: Source
) -> object | None:
    """Return what stands for a reading if one of its fields is misspelt, else None; count its other unknown fields."""
    for name in item.keys() - fields:
        meant = find_meant(name, fields, other_names) if isinstance(name, str) else None
        if meant is not None and meant not in item:
            return refuse_item(f"there is no field {show(name)}; did you mean {meant}?", "field_unknown")
        source.rejected.add_unknown_field(show(name))
    return None


def as_instant(time: object) -> object:
    """Return a number that counts seconds, milli-, micro- or nanoseconds, by its size; leave other times alone."""
    if isinstance(time, bool) or not isinstance(time, int | float) or not -_TIME_LIMIT < time < _TIME_LIMIT:
        return time
    size = abs(time)
    if size < 10**11:
        return Instant(round(time * 1_000_000))
    if size < 10**14:
        return Instant(round(time * 1_000))
    return Instant(int(time) if size < 10**17 else int(time) // 1_000)
