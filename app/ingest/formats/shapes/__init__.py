"""Shapes of bodies at /api/v1/readings: each module of this package is one and is found automatically.

A module whose name begins with an underscore is no shape, but shared by some.

A module defines `SHAPE`, a `Shape`. What it reads are readings as in Tidegauge's own format, decoded but not checked;
they are checked one by one, so that one bad value does not cost others. Take `columnar.py` as the model for a new one.
"""

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from app.ingest.bodies.document import Document
from app.ingest.formats import ReceiptTimes
from app.ingest.uploads.receipt import Rejected

#: Shapes have no routes of their own: that of `readings.py` takes all of them.
handlers: tuple[()] = ()
#: Units by metric; a null is as good as none.
Units = dict[str, str | None] | None
#: Readings with their places in the body, from 0, as the refusals name them.
Items = Iterator[tuple[int, object]]


class Source:
    """What is known of an upload beside its readings."""

    def __init__(self, times: ReceiptTimes, asked_sensor: str | None = None, sensor: str = "") -> None:
        self.times = times
        self.rejected = Rejected()
        #: The sensor of readings that name none: that of the parameter `sensor`, None without it.
        self.asked_sensor = asked_sensor
        #: The same for shapes that have no place for a sensor.
        self.sensor = asked_sensor or sensor
        #: What the body says for all its readings, set while it is read.
        self.gateway: str | None = None
        self.units: Units = None
        #: A field beside the readings that names a time, which would be that of none of them.
        self.outer_time: str | None = None


class Shape(NamedTuple):
    """How to recognize and read bodies of one shape."""

    #: A body as JSON or as text, for the error about an unknown shape, the documentation and tests.
    example: Any
    #: Returns whether a JSON or MessagePack body has this shape. No body fits two shapes, but for those of `is_last`.
    fits: Callable[[Document], bool]
    #: Yields the readings of a document. Raises InvalidRequestError if none of them can be used.
    read: Callable[[Document, Source], Items]
    #: The names of the fields by which people know the shape.
    fields: Collection[str] = ()
    #: What others call these, in lower case without separators.
    other_names: Mapping[str, str] = {}
    #: The media types, in lower case, of bodies that always have this shape.
    media_types: frozenset[str] = frozenset()
    #: Returns a body of one of these media types as a document; it is JSON or MessagePack otherwise.
    open_body: Callable[[bytes, str], Document] | None = None
    #: Returns whether a body that is no JSON has this shape, whatever its media type.
    fits_text: Callable[[bytes], bool] | None = None
    #: Whether other shapes are tried before.
    is_last: bool = False


@cache
def find_shapes() -> tuple[Shape, ...]:
    """Import every module of this package, and return their shapes in the order in which they are tried."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    shapes: list[Shape] = [importlib.import_module(f"{__name__}.{name}").SHAPE for name in names]
    return tuple(sorted(shapes, key=lambda shape: shape.is_last))


@cache
def shapes_by_media_type() -> dict[str, Shape]:
    """Return the shapes of the media types whose bodies always have one shape."""
    return {media_type: shape for shape in find_shapes() for media_type in shape.media_types}


def find_shape(document: Document) -> Shape | None:
    """Return the shape of a document, None if it has none that is known."""
    return next((shape for shape in find_shapes() if shape.fits(document)), None)


def find_text_shape(body: bytes) -> Shape | None:
    """Return the shape of a body that is no JSON, None if it has none that is known."""
    return next((shape for shape in find_shapes() if shape.fits_text is not None and shape.fits_text(body)), None)
