"""Body formats of uploads: one module each, found by itself.

A module defines `handlers`, the Litestar routes that take its bodies. A route whose body becomes readings has a
function `parse(body, media_type, times)` that returns `Parsed`, and passes it to `Ingest.take`, which reads the body,
stores the readings and returns the receipt. `native.py` is the model to follow.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.ingest.upload import Rejected
from app.model import Reading


class Parsed(NamedTuple):
    """What a body brings."""

    #: Checked, each with its place in the body as `index`.
    readings: list[Reading]
    rejected: Rejected
    #: The gateway, where the body names it.
    gateway: str | None = None


class ReceiptTimes:
    """The times of readings that bring none: the time of receipt, in microseconds since 1970.

    The second such reading of one sensor gets a microsecond more, and so on, so that each is a reading of its own.
    """

    def __init__(self, received_us: int) -> None:
        self.received_us = received_us
        #: The latest time that was given.
        self.last_us = received_us
        self._next: dict[str, int] = {}

    def give(self, sensor: str) -> int:
        """Return the time of the sensor's next reading without a time."""
        us = self._next.get(sensor, self.received_us)
        self._next[sensor] = us + 1
        self.last_us = max(self.last_us, us)
        return us


#: Turns a body, its media type in lower case without parameters, and the times to give into readings; raises
#: InvalidRequestError or PayloadTooLargeError for a body that cannot be used at all.
Parse = Callable[[bytes, str, ReceiptTimes], Parsed]


def find_handlers() -> list[Any]:
    """Import every module of this package and return the route handlers of all, in order of module name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    handlers: list[Any] = []
    for name in names:
        own: Sequence[Any] = importlib.import_module(f"{__name__}.{name}").handlers
        handlers += own
    return handlers
