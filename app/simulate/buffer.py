"""What a gateway keeps until it is acknowledged."""

from collections import deque

from app.simulate.uplink import Measurement


class Buffer:
    """Readings that wait to be sent, oldest first; when it is full the oldest are lost."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._readings: deque[Measurement] = deque()
        #: Values, not readings, as everything that is counted.
        self.value_count = 0

    def add(self, reading: Measurement) -> int:
        """Keep a reading; give how many values were lost to make room for it."""
        lost = len(self._pop().values) if len(self._readings) >= self._limit else 0
        self._readings.append(reading)
        self.value_count += len(reading.values)
        return lost

    def take(self, count: int) -> list[Measurement]:
        """Take up to `count` of the oldest out; they are the taker's to keep."""
        return [self._pop() for _ in range(min(count, len(self._readings)))]

    def clear(self) -> None:
        """Forget everything."""
        self._readings.clear()
        self.value_count = 0

    def _pop(self) -> Measurement:
        reading = self._readings.popleft()
        self.value_count -= len(reading.values)
        return reading
