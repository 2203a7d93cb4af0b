"""One rule over one series of a backtest: its episodes, their peaks, and what makes them uncertain."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from app.alerting.episodes.machine import Episode, Machine, SeriesRule, Step
from app.alerting.episodes.samples import Sample, Sampler

#: What an episode touches that may have made the live evaluation see it otherwise.
Edge = Literal["start", "era", "retention"]


class Edges(msgspec.Struct, frozen=True):
    """Where a series is known worse, or the live evaluation of it began anew; microseconds since 1970."""

    #: Older readings may be gone.
    retention_us: int
    #: There are readings from before the backtest's start.
    has_past: bool
    #: None: the live evaluation has seen all of the series, and the rule has said the same all along.
    era_us: int | None = None


class FoundEpisode(msgspec.Struct, frozen=True):
    """An episode and what a backtest says about it."""

    episode: Episode
    #: The sample farthest past the lowest level's limit.
    peak: float
    touches: tuple[Edge, ...]


class RuleRun:
    """A rule's machine, started clear, and beside it one that starts in an episode.

    As long as that one has not become clear, too, the state depends on what came before the start.
    """

    def __init__(self, rule: SeriesRule, start_us: int) -> None:
        self._rule = rule
        self._start_us = start_us
        self._sampler = Sampler(rule.value)
        self._machine = Machine(rule)
        self._other: Machine | None = Machine(rule, _begun_at(rule, start_us))
        #: Since when the state has depended on nothing from before the start.
        self._certain_us: int | None = None
        self._limit = rule.levels[0].condition.ranges()
        self._peaks: list[float] = []
        #: Of what is an episode, or may become one.
        self._farthest: tuple[float, Sample] | None = None

    def push(self, t: int, value: float) -> None:
        """Take the next reading; one from before the start only fills the window."""
        sample = self._sampler.push(t, value)
        if sample is None or t < self._start_us:
            return
        self._machine.step(sample)
        self._measure(sample)
        if self._other is not None:
            self._other.step(sample)
            if self._other.open is None:
                self._certain_us, self._other = t, None

    @property
    def has_episodes(self) -> bool:
        return bool(self._machine.episodes)

    def found(self, edges: Edges) -> list[FoundEpisode]:
        """Give the episodes in order of time."""
        peaks = list(self._peaks)
        if self._farthest is not None and self._machine.open is not None:
            peaks.append(self._farthest[1].value)
        return [
            FoundEpisode(episode, peak, tuple(self._touched(episode, edges)))
            for episode, peak in zip(self._machine.episodes, peaks, strict=True)
        ]

    def _measure(self, sample: Sample) -> None:
        machine = self._machine
        if self._farthest is not None and len(machine.closed) > len(self._peaks):
            self._peaks.append(self._farthest[1].value)
            self._farthest = None
        depth = _depth(self._limit, sample.value)
        if depth is None:
            if machine.open is None:
                self._farthest = None
            return
        start = machine.memory(sample.t).starts[0] if machine.open is None else machine.open.started_at
        if self._farthest is None or start == sample.t or depth > self._farthest[0]:
            self._farthest = depth, sample

    def _touched(self, episode: Episode, edges: Edges) -> Iterator[Edge]:
        reach_us = self._rule.lookback_us + self._rule.value.window_us
        if edges.has_past and (self._certain_us is None or episode.fired_at < self._certain_us):
            yield "start"
        if (
            edges.era_us is not None
            and episode.started_at <= edges.era_us + reach_us
            and (episode.resolved_at is None or episode.resolved_at >= edges.era_us)
        ):
            yield "era"
        if episode.started_at <= edges.retention_us + reach_us:
            yield "retention"


def _begun_at(rule: SeriesRule, t: int) -> Episode:
    """Make an episode that can rise no further."""
    return Episode(t, t, None, (Step(rule.levels[-1].name, t),))


def _depth(ranges: tuple[tuple[float, float], ...], value: float) -> float | None:
    """Measure how far inside the accepted values one is, to the nearest limit; None when it is outside."""
    return next((min(value - low, high - value) for low, high in ranges if low <= value <= high), None)
