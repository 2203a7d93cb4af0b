"""Tidegauge's own shape: `{"gateway"?, "units"?, "readings": [...]}`, the list alone, or a single reading.

A reading is `{"sensor", "time"?, "values", "tags"?, "unit"?, "units"?}`.
"""

from typing import Final

from app.errors import InvalidRequestError
from app.hints import find_meant
from app.ingest.bodies.document import Document, Listing
from app.ingest.formats.shapes import Items, Shape, Source
from app.ingest.formats.shapes._fields import check_gateway, check_names
from app.ingest.formats.shapes._items import FIELDS, OTHER_NAMES, keep_units
from app.names import explain_units

_FIELDS: Final = ("readings", "gateway", "units")
_OTHER_NAMES: Final = {
    **dict.fromkeys(("gatewayid", "gatewayname", "gw", "source"), "gateway"),
    **dict.fromkeys(("items", "records", "measurements", "samples", "data"), "readings"),
}


def fits(document: Document) -> bool:
    """Return whether it is a list, an object with a list of readings, or has the fields of one reading."""
    names = document.names
    if names is None:
        return document.items is not None
    return document.list_of("readings") is not None or _is_reading(document)


def _is_reading(document: Document) -> bool:
    names = document.names or ()
    is_telemetry = "ts" in names and "sensor" not in names
    return "values" in names and not is_telemetry and document.list_of("values") is None


def read(document: Document, source: Source) -> Items:
    """Yield the readings, after what the body says for all of them."""
    if document.names is not None and document.list_of("readings") is None:
        return iter([(0, document.as_object())])
    return enumerate(open_envelope(document, source).items())


def open_envelope(document: Document, source: Source) -> Listing:
    """Return the list of readings, after noting the gateway and the units; raise InvalidRequestError for wrong ones."""
    listing = document.items or document.list_of("readings")
    assert listing is not None  # noqa: S101 -- it fits
    check_names(document, _FIELDS, _OTHER_NAMES, source)
    source.gateway = check_gateway(document.get("gateway"))
    units = document.get("units")
    if units is not None and not isinstance(units, dict):
        raise InvalidRequestError(explain_units(units))
    source.units = keep_units(0, units, source)
    source.outer_time = next((name for name in document.names or () if _means_time(name)), None)
    return listing


def _means_time(name: str) -> bool:
    return find_meant(name, FIELDS, OTHER_NAMES) == "time"


SHAPE: Final = Shape(
    example={"readings": [{"sensor": "cellar", "time": "2026-01-31T08:00:00Z", "values": {"temperature": 12.5}}]},
    fits=fits,
    read=read,
    fields=(*_FIELDS, *FIELDS),
    other_names={**OTHER_NAMES, **_OTHER_NAMES},
    is_last=True,
)
