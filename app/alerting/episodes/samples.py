"""Samples: the values that a rule compares with its thresholds, computed from the stored readings."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from math import fsum
from typing import Literal, assert_never

import msgspec

from app.clock import HOUR_US

#: Microseconds since 1970, value.
StoredReading = tuple[int, float]


class ValueOf(msgspec.Struct, frozen=True):
    """The `value:` of a rule. Every kind but `last` has a window longer than 0."""

    kind: Literal["last", "avg", "min", "max", "rate", "delta", "increase", "range"] = "last"
    window_us: int = 0
    #: For `rate` only: the readings are those of a counter, and a fall is a reset to 0.
    counter: bool = False

    @property
    def compares_ends(self) -> bool:
        """Return whether a sample depends only on the newest and the oldest reading of its window."""
        return self.kind in ("delta", "rate") and not self.counter

    @property
    def needs_half_window(self) -> bool:
        """Return whether there is no sample while the oldest reading is less than half a window old."""
        return self.kind in ("delta", "rate", "increase", "range")

    @property
    def name(self) -> str:
        """The kind as it is stored with an episode."""
        return "counter_rate" if self.counter else self.kind


class Sample(msgspec.Struct, frozen=True, gc=False):
    """The value that a rule compares at `t`, in microseconds since 1970."""

    t: int
    value: float


def samples(value_of: ValueOf, readings: Iterable[StoredReading]) -> Iterator[Sample]:
    """Yield the samples of readings. Readings must ascend strictly in time."""
    sampler = Sampler(value_of)
    for t, value in readings:
        sample = sampler.push(t, value)
        if sample is not None:
            yield sample


class Sampler:
    """The readings in the window that ends at the newest reading of one series.

    `push(t, value)` adds the next reading and returns its sample, or None if it has none.
    """

    def __init__(self, value_of: ValueOf) -> None:
        self._window_us = value_of.window_us
        self._is_counter = value_of.counter
        self._window: deque[StoredReading] = deque()
        #: Readings before the first pushed one, in order of time, for `delta` and `rate` only. A caller that pushes no
        #: whole window fills it before each push up to the oldest reading of the window, so that it need not read the
        #: others.
        self.older: deque[StoredReading] = deque()
        self.push: Callable[[int, float], Sample | None] = self._push_of(value_of)

    def _push_of(self, value_of: ValueOf) -> Callable[[int, float], Sample | None]:
        match value_of.kind:
            case "last":
                return Sample
            case "avg":
                return self._summary(_average)
            case "min":
                return self._summary(min)
            case "max":
                return self._summary(max)
            case "delta":
                return self._push_delta
            case "rate":
                return self._push_counter_rate if self._is_counter else self._push_rate
            case "increase":
                return self._push_increase
            case "range":
                return self._push_range
            case unknown:
                assert_never(unknown)

    def _summary(self, summarize: Callable[[list[float]], float]) -> Callable[[int, float], Sample]:
        """Return a push function that summarizes the readings in (t-w, t].

        Each sample is computed from the whole window: the rounding errors of a running sum would cross thresholds.
        """
        window, window_us = self._window, self._window_us

        def push(t: int, value: float) -> Sample:
            window.append((t, value))
            while window[0][0] <= t - window_us:
                window.popleft()
            return Sample(t, summarize([value for _, value in window]))

        return push

    def _push_delta(self, t: int, value: float) -> Sample | None:
        """Return the difference from the oldest reading in [t-w, t], or None if that is less than w/2 old."""
        oldest_t, oldest = self._push_and_find_oldest(t, value)
        return None if 2 * (t - oldest_t) < self._window_us else Sample(t, value - oldest)

    def _push_rate(self, t: int, value: float) -> Sample | None:
        oldest_t, oldest = self._push_and_find_oldest(t, value)
        span_us = t - oldest_t
        return None if 2 * span_us < self._window_us else Sample(t, (value - oldest) * HOUR_US / span_us)

    def _push_increase(self, t: int, value: float) -> Sample | None:
        """Return the sum of the increases in [t-w, t]: a lower bound, because nothing is extrapolated."""
        oldest_t, _ = self._push_and_find_oldest(t, value)
        return None if 2 * (t - oldest_t) < self._window_us else Sample(t, _increase(self._window))

    def _push_counter_rate(self, t: int, value: float) -> Sample | None:
        oldest_t, _ = self._push_and_find_oldest(t, value)
        span_us = t - oldest_t
        return None if 2 * span_us < self._window_us else Sample(t, _increase(self._window) * HOUR_US / span_us)

    def _push_range(self, t: int, value: float) -> Sample | None:
        """Return the difference between the highest and the lowest reading in [t-w, t]."""
        oldest_t, _ = self._push_and_find_oldest(t, value)
        if 2 * (t - oldest_t) < self._window_us:
            return None
        values = [value for _, value in self._window]
        return Sample(t, max(values) - min(values))

    def _push_and_find_oldest(self, t: int, value: float) -> StoredReading:
        window, older, from_us = self._window, self.older, t - self._window_us
        window.append((t, value))
        while older and older[0][0] < from_us:
            older.popleft()
        while window[0][0] < from_us:
            window.popleft()
        return older[0] if older else window[0]


def _average(values: list[float]) -> float:
    return fsum(values) / len(values)


def _increase(window: Iterable[StoredReading]) -> float:
    """Return by how much a counter has grown. After a reset it has grown from 0."""
    return fsum(after - before if after >= before else after for (_, before), (_, after) in pairwise(window))
