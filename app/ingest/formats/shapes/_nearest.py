"""The refusal of a body whose shape is unknown: it shows the nearest known one."""

import json

from app.errors import InvalidRequestError
from app.hints import find_meant, listed
from app.ingest.bodies.document import Document
from app.ingest.formats.shapes import Shape, find_shapes, native
from app.names import show

_NAMES_COMPARED = 20


def refuse_shape(document: Document) -> InvalidRequestError:
    """Return the error about a body that fits no shape."""
    names = [*(document.names or ())][:_NAMES_COMPARED]
    nearest = max(find_shapes(), key=lambda shape: (_likeness(shape, names), shape is native.SHAPE))
    if not _likeness(nearest, names):
        return InvalidRequestError(
            'The body is neither a list of readings nor {"readings": [...]}; send for example '
            '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'
        )
    meant = next((found for name in names if (found := _find_meant(nearest, name)) not in (None, *names)), None)
    hint = f"; did you mean {meant}?" if meant is not None else "."
    return InvalidRequestError(
        f"The body is an object with {listed([show(name) for name in names]).replace(' or ', ' and ')}, which is no "
        f"shape that is known{hint} The nearest is, for example: {json.dumps(nearest.example)}"
    )


def _likeness(shape: Shape, names: list[str]) -> int:
    return sum(2 if name in shape.fields else 1 for name in names if _find_meant(shape, name) is not None)


def _find_meant(shape: Shape, name: str) -> str | None:
    return find_meant(name, shape.fields, shape.other_names)
