"""One series as columns: `{"sensor"?, "metric", "times": [...], "values": [...], "unit"?, "tags"?}`."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

from app.errors import InvalidRequestError
from app.ingest.bodies.document import Document
from app.ingest.formats.shapes import Items, Shape, Source
from app.ingest.formats.shapes._fields import check_gateway, check_names
from app.names import show

_FIELDS: Final = ("sensor", "metric", "times", "values", "unit", "tags", "gateway")
_OTHER_NAMES: Final = {"name": "metric", "field": "metric", "device": "sensor", "labels": "tags", "time": "times"}
_MISSING: Final = object()


def fits(document: Document) -> bool:
    """Return whether it has lists of times and of values."""
    return document.list_of("times") is not None and document.list_of("values") is not None


def read(document: Document, source: Source) -> Items:
    """Yield a reading for each time; raise InvalidRequestError if the lists differ in length, or have no metric."""
    check_names(document, _FIELDS, _OTHER_NAMES, source)
    source.gateway = check_gateway(document.get("gateway"))
    metric = document.get("metric")
    if not isinstance(metric, str):
        raise InvalidRequestError(f'metric is {show(metric)}; send the name of the metric, such as "temperature"')
    shared = {name: value for name in ("sensor", "unit", "tags") if (value := document.get(name)) is not None}
    shared.setdefault("sensor", source.sensor)
    for index, (time, value) in enumerate(_rows(document)):
        yield index, {**shared, "time": time, "values": {metric: value}}


def _rows(document: Document) -> Iterator[tuple[Any, Any]]:
    times, values = document.list_of("times"), document.list_of("values")
    assert times is not None  # noqa: S101 -- it fits
    assert values is not None  # noqa: S101
    for number, (time, value) in enumerate(zip_longest(times.items(), values.items(), fillvalue=_MISSING)):
        if time is _MISSING or value is _MISSING:
            shorter = "times" if time is _MISSING else "values"
            raise InvalidRequestError(
                f"{shorter} has {number} items, and the other list more; send a value for each time"
            )
        yield time, value


SHAPE: Final = Shape(
    example={
        "sensor": "cellar",
        "metric": "temperature",
        "times": ["2026-01-31T08:00:00Z", "2026-01-31T08:01:00Z"],
        "values": [12.5, 12.75],
    },
    fits=fits,
    read=read,
    fields=_FIELDS,
    other_names=_OTHER_NAMES,
)
