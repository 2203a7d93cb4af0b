"""Samples: what a rule looks at, computed from the stored readings."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import fsum
from typing import Literal, assert_never

import msgspec

from app.clock import HOUR_US

#: Microseconds since 1970, value.
StoredReading = tuple[int, float]


class ValueOf(msgspec.Struct, frozen=True):
    """What `value:` says; every kind but `last` looks back over a window longer than 0."""

    kind: Literal["last", "avg", "min", "max", "rate", "delta"] = "last"
    window_us: int = 0


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What the machine sees at `t`, microseconds since 1970."""

    t: int
    value: float


def samples(value_of: ValueOf, readings: Iterable[StoredReading]) -> Iterator[Sample]:
    """Compute the samples of readings that ascend in time, one a time."""
    sampler = Sampler(value_of)
    for t, value in readings:
        sample = sampler.push(t, value)
        if sample is not None:
            yield sample


class Sampler:
    """The window behind one series' newest reading; a reading leaves it as soon as it is too old."""

    def __init__(self, value_of: ValueOf) -> None:
        self._window_us = value_of.window_us
        self._window: deque[StoredReading] = deque()
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
                return self._push_rate
            case unknown:
                assert_never(unknown)

    def _summary(self, summarize: Callable[[list[float]], float]) -> Callable[[int, float], Sample]:
        """Summarize (t-w, t], anew each time: a running sum drifts and flips a threshold now and then."""
        window, window_us = self._window, self._window_us

        def push(t: int, value: float) -> Sample:
            window.append((t, value))
            while window[0][0] <= t - window_us:
                window.popleft()
            return Sample(t, summarize([value for _, value in window]))

        return push

    def _push_delta(self, t: int, value: float) -> Sample | None:
        """Compare with the oldest reading in [t-w, t]; over less than half a window it would say little."""
        window = self._window
        window.append((t, value))
        while window[0][0] < t - self._window_us:
            window.popleft()
        oldest_t, oldest = window[0]
        return None if 2 * (t - oldest_t) < self._window_us else Sample(t, value - oldest)

    def _push_rate(self, t: int, value: float) -> Sample | None:
        delta = self._push_delta(t, value)
        return None if delta is None else Sample(t, delta.value * HOUR_US / (t - self._window[0][0]))


def _average(values: list[float]) -> float:
    return fsum(values) / len(values)
