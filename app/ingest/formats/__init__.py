"""Body formats of uploads: each module of this package is one format and is found automatically.

A module whose name begins with an underscore is no format, but shared by some.

A module defines `handlers`, the Litestar routes that accept its bodies. A route whose body becomes readings passes a
function `parse(body, media_type, times)`, which returns `Parsed`, to `Ingest.take`, which reads the body, stores the
readings and returns the receipt. Take `ttn.py` as the model for a new format. Bodies of /api/v1/readings come in
several shapes; those are modules of the package `shapes`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.ingest.bodies.pieces import READINGS_LIMIT
from app.ingest.checks import Refusal, check_time
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Rejected


class Parsed(NamedTuple):
    """The contents of a body."""

    #: Checked readings, each with its position in the body as `index`.
    readings: Readings
    rejected: Rejected
    #: The gateway's name, if the body has one.
    gateway: str | None = None
    #: The id of the event in the body; an event that is sent again is stored once. None: only times identify readings.
    event: str | None = None


class ReceiptTimes:
    """Times for readings without one: the time of receipt, in microseconds since 1970.

    Each further reading of the same sensor gets a microsecond more, so that no two have the same time. For a body that
    is parsed in a thread, `reserve` takes a number of times that no other upload gets, and returns the first.
    """

    def __init__(self, received_us: int, reserve: Callable[[int], int] | None = None) -> None:
        self.received_us = received_us
        #: The latest time that `give` has returned.
        self.last_us = received_us
        #: The newest of the times that were refused.
        self.newest_refused_us: int | None = None
        self._reserve = reserve
        self._expected: int | None = READINGS_LIMIT
        self._first_us = received_us
        self._next: dict[str, int] = {}
        self._is_used = False

    @property
    def are_used(self) -> bool:
        """Return whether a reading has got its time from the time of receipt."""
        return self._is_used or bool(self._next)

    def take_receipt(self) -> int:
        """Return the time of receipt, for a reading whose time counts from it."""
        self._is_used = True
        return self.received_us

    def check(self, time_us: int) -> Refusal | None:
        """Return a refusal if a reading cannot have this time, else None; note refused times, which show the clock."""
        refusal = check_time(time_us, self.received_us)
        if refusal is not None:
            self.newest_refused_us = max(time_us, self.newest_refused_us or time_us)
        return refusal

    def expect(self, readings: int) -> None:
        """Note how many readings are next; no more times than these are reserved."""
        self._expected = readings

    def give(self, sensor: str) -> int:
        """Return the time of the sensor's next reading without a time."""
        if self._reserve is not None and self._expected is not None:
            self._first_us, self._expected = self._reserve(self._expected), None
        us = max(self._next.get(sensor, 0), self._first_us)
        self._next[sensor] = us + 1
        self.last_us = max(self.last_us, us)
        return us


#: Takes a body, its media type in lower case without parameters, and times for readings without one. Raises
#: InvalidRequestError or PayloadTooLargeError if no part of the body can be used. It runs in a thread for a body larger
#: than INLINE_BYTES, where the event loop waits for each step of C: a body is best decoded piece by piece.
Parse = Callable[[bytes, str, ReceiptTimes], Parsed]
#: The same, but returns None unless all is right in the body, and is quick.
ParseGood = Callable[[bytes, str, ReceiptTimes], Parsed | None]


def find_handlers() -> list[Any]:
    """Import every module of this package, and return all their route handlers in order of module name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    handlers: list[Any] = []
    for name in names:
        own: Sequence[Any] = importlib.import_module(f"{__name__}.{name}").handlers
        handlers += own
    return handlers
