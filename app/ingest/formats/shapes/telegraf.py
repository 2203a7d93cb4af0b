"""The JSON of Telegraf's output `http`: `{"metrics": [...]}`, a list of metrics, or one metric.

A metric is `{"name", "fields", "tags", "timestamp"}`; its sensor and metrics are named as for line protocol, whose
client Telegraf is otherwise. Texts are left out.
"""

from typing import Any, Final

from app.ingest.bodies.document import Document
from app.ingest.checks import scalar_text
from app.ingest.formats._tags import find_origin
from app.ingest.formats.shapes import Items, Shape, Source
from app.ingest.formats.shapes._fields import as_instant, keep_numbers, refuse_misspelt, refuse_repeated
from app.ingest.formats.shapes._items import refuse_item
from app.model import Tags
from app.names import show

_METRIC_FIELDS: Final = ("name", "fields", "tags", "timestamp")
_FIELDS: Final = ("metrics", *_METRIC_FIELDS)
_OTHER_NAMES: Final = {
    **dict.fromkeys(("ts", "time", "date", "datetime", "epoch"), "timestamp"),
    **dict.fromkeys(("labels", "attributes"), "tags"),
}


def fits(document: Document) -> bool:
    """Return whether it has the list `metrics`, or is a metric or a list that begins with one."""
    if document.list_of("metrics") is not None:
        return True
    if document.items is not None:
        return _is_metric(document.items.first)
    names = document.names or ()
    return "fields" in names and "name" in names


def _is_metric(item: object) -> bool:
    return isinstance(item, dict) and "fields" in item and "name" in item


def read(document: Document, source: Source) -> Items:
    """Yield a reading for each metric."""
    listing = document.items or document.list_of("metrics")
    items = [document.as_object()] if listing is None else listing.items()
    for index, item in enumerate(items):
        reading = _as_reading(item, source)
        if reading is not None:
            yield index, reading


def _as_reading(item: Any, source: Source) -> object:
    """Return a metric as a reading, None if it has texts alone, which is no error."""
    if not _is_metric(item) or not isinstance(item["name"], str) or not isinstance(item["fields"], dict):
        return refuse_item(f"a metric is {show(item)}; send an object with name, fields, tags and timestamp")
    name, fields, given = item["name"], item["fields"], item.get("tags") or {}
    if (refused := refuse_repeated(item, fields, given)) is not None:
        return refused
    if (refused := refuse_misspelt(item, _METRIC_FIELDS, _OTHER_NAMES, source)) is not None:
        return refused
    tags = _read_tags(given)
    if tags is None:  # they name the sensor, so there is none without them
        return refuse_item(f"tags is {show(given)}; send an object of texts")
    origin = find_origin(name, tags)
    numbers = keep_numbers({name if field == "value" else f"{name}_{field}": fields[field] for field in fields})
    if fields and not numbers:
        return None
    time = as_instant(item.get("timestamp"))
    return {"sensor": origin.sensor, "time": time, "values": numbers, "tags": origin.tags or None}


def _read_tags(tags: object) -> Tags | None:
    """Return tags as texts, None if one of them cannot be a text."""
    if not isinstance(tags, dict):
        return None
    texts = {
        name: value if isinstance(value, str) else scalar_text(value)
        for name, value in tags.items()
        if value is not None and isinstance(name, str)
    }
    kept = {name: text for name, text in texts.items() if text is not None}
    return kept if len(kept) == len(texts) else None


SHAPE: Final = Shape(
    example={
        "metrics": [
            {
                "name": "weather",
                "fields": {"temperature": 12.5},
                "tags": {"host": "roof"},
                "timestamp": 1_769_846_400,
            }
        ]
    },
    fits=fits,
    read=read,
    fields=_FIELDS,
)
