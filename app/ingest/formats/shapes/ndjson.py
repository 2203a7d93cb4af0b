"""A JSON value a line, each a body of its own shape with one reading or several."""

from collections.abc import Iterator
from typing import Any, Final

from app.errors import InvalidRequestError
from app.ingest.bodies.document import JSON, Document
from app.ingest.bodies.lines import list_lines
from app.ingest.bodies.loose_json import Repeated
from app.ingest.formats.shapes import Items, Shape, Source, find_shape
from app.ingest.formats.shapes._items import refuse_item
from app.names import show

_MEDIA_TYPES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)


def fits_text(body: bytes) -> bool:
    """Return whether two lines begin as objects do."""
    first, _, rest = body.lstrip().partition(b"\n")
    return first.startswith(b"{") and rest.lstrip().startswith(b"{") and first.rstrip().endswith(b"}")


def read(document: Document, source: Source) -> Items:
    """Yield the readings of each line; their place is that of the line, from 0."""
    lines = document.items.items() if document.items is not None else iter(())
    for index, line in enumerate(lines):
        if line.strip():
            yield from ((index, item) for item in _read_line(line, source))


def _read_line(line: bytes, source: Source) -> Iterator[object]:
    source.units = None  # those of the line before
    try:
        value: Any = JSON.read_part(line)
        if isinstance(value, Repeated):
            yield value  # it is refused by itself, and not with the body
            return
        document = Document.of(value)
        shape = find_shape(document)
        if shape is None:
            yield refuse_item(f"the line is {show(value)}; send an object with sensor and values")
            return
        yield from [item for _, item in shape.read(document, source)]
    except InvalidRequestError as error:
        yield refuse_item(str(error).replace("The body", "the line", 1))


SHAPE: Final = Shape(
    example=(
        '{"sensor": "cellar", "time": "2026-01-31T08:00:00Z", "values": {"temperature": 12.5}}\n'
        '{"sensor": "roof", "time": "2026-01-31T08:00:00Z", "values": {"temperature": -3.25}}\n'
    ),
    fits=lambda _document: False,
    read=read,
    media_types=_MEDIA_TYPES,
    open_body=lambda body, _media_type: Document(list_lines(body)),
    fits_text=fits_text,
)
