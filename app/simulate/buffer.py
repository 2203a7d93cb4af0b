"""The readings of a gateway, and the buffer in which they are kept until they are sent."""

from collections import deque

import msgspec


class Measurement(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One reading as it is sent; `time` is in milliseconds since 1970."""

    sensor: str
    time: int
    values: dict[str, float]
    tags: dict[str, str] | None = None


class Buffer:
    """Readings that wait to be sent, oldest first; a full buffer loses its oldest reading for each new one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._readings: deque[Measurement] = deque()
        #: Number of values, one for each metric of each reading, in the unit of DeliveryCounts.
        self.value_count = 0

    def add(self, reading: Measurement) -> int:
        """Add a reading and return how many values were lost to make room for it."""
        lost = len(self._pop().values) if len(self._readings) >= self._limit else 0
        self._readings.append(reading)
        self.value_count += len(reading.values)
        return lost

    def take(self, count: int) -> list[Measurement]:
        """Remove and return up to `count` of the oldest readings."""
        return [self._pop() for _ in range(min(count, len(self._readings)))]

    def clear(self) -> None:
        """Remove all readings."""
        self._readings.clear()
        self.value_count = 0

    def _pop(self) -> Measurement:
        reading = self._readings.popleft()
        self.value_count -= len(reading.values)
        return reading
