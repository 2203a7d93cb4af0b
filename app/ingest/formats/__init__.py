"""Body formats of uploads: each module of this package is one format and is found automatically.

A module defines `handlers`, the Litestar routes that accept its bodies. A route whose body becomes readings passes a
function `parse(body, media_type, times)`, which returns `Parsed`, to `Ingest.take`, which reads the body, stores the
readings and returns the receipt. Take `native.py` as the model for a new format.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.ingest.upload import Readings, Rejected


class Parsed(NamedTuple):
    """The contents of a body."""

    #: Checked readings, each with its position in the body as `index`.
    readings: Readings
    rejected: Rejected
    #: The gateway's name, if the body has one.
    gateway: str | None = None


class ReceiptTimes:
    """Times for readings without one: the time of receipt, in microseconds since 1970.

    Each further reading of the same sensor gets a microsecond more, so that no two have the same time.
    """

    def __init__(self, received_us: int) -> None:
        self.received_us = received_us
        #: The latest time that `give` has returned.
        self.last_us = received_us
        self._next: dict[str, int] = {}

    @property
    def are_used(self) -> bool:
        """Return whether a reading has got its time here."""
        return bool(self._next)

    def give(self, sensor: str) -> int:
        """Return the time of the sensor's next reading without a time."""
        us = self._next.get(sensor, self.received_us)
        self._next[sensor] = us + 1
        self.last_us = max(self.last_us, us)
        return us


#: Takes a body, its media type in lower case without parameters, and times for readings without one. Raises
#: InvalidRequestError or PayloadTooLargeError if no part of the body can be used.
Parse = Callable[[bytes, str, ReceiptTimes], Parsed]


def find_handlers() -> list[Any]:
    """Import every module of this package, and return all their route handlers in order of module name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    handlers: list[Any] = []
    for name in names:
        own: Sequence[Any] = importlib.import_module(f"{__name__}.{name}").handlers
        handlers += own
    return handlers
