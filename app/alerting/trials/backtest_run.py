"""One rule run over one series in a backtest: its episodes, their peaks, and the edges that make them uncertain."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from app.alerting.episodes.machine import Episode, Machine, SeriesRule, Step
from app.alerting.episodes.samples import Sample, Sampler, StoredReading
from app.alerting.episodes.timed import NEVER, TimedMachine, Timeline, Timing

#: An edge of the data near an episode, because of which the live evaluation may have found another episode.
Edge = Literal["start", "era", "retention"]


class Edges(msgspec.Struct, frozen=True):
    """The edges of a series in a backtest; times are microseconds since 1970."""

    #: Older readings may have been deleted.
    retention_us: int
    #: Whether there are readings from before the backtest's start.
    has_past: bool
    #: Start of the live evaluation's era. None: it has evaluated the whole series, and the rule has not changed.
    era_us: int | None = None


class FoundEpisode(msgspec.Struct, frozen=True):
    """An episode, its peak and the edges that it touches."""

    episode: Episode
    #: Value of the sample that is farthest past the lowest level's limit.
    peak: float
    touches: tuple[Edge, ...]


class _WatchedMachine(TimedMachine):
    """A machine that calls a function after each sample, also after held ones."""

    __slots__ = ("_after",)

    def __init__(self, rule: SeriesRule, open_episode: Episode | None, after: Callable[[Sample], None]) -> None:
        super().__init__(rule, open_episode)
        self._after = after

    def step(self, sample: Sample) -> None:
        """Take the next sample."""
        super().step(sample)
        self._after(sample)


class RuleRun:
    """A rule's state machine, which starts clear, together with a second one, which starts in an episode.

    Until the second machine has become clear, too, the state depends on readings from before the start.
    """

    def __init__(
        self,
        rule: SeriesRule,
        start_us: int,
        timing: Timing | None = None,
        companion_readings: Sequence[Sequence[StoredReading]] = (),
    ) -> None:
        """Begin a run; a timed rule needs its `timing` and the readings of its companions."""
        self._rule = rule
        self._start_us = start_us
        self._sampler = Sampler(rule.value)
        opposite = _episode_at_highest_level(rule, start_us)
        self._machine: Machine = Machine(rule)
        self._other: Machine | None = Machine(rule, opposite)
        self._timelines: list[Timeline] = []
        if timing is not None:
            timed = _WatchedMachine(rule, None, self._measure), _WatchedMachine(rule, opposite, self._look_at_other)
            self._machine, self._other = timed
            self._timelines = [Timeline(rule, machine, timing) for machine in timed]
            for timeline in self._timelines:
                for number, readings in enumerate(companion_readings):
                    timeline.add_readings(number, readings)
        #: Time of the sample at which the second machine became clear.
        self._certain_us: int | None = None
        self._limit = rule.levels[0].condition.ranges()
        #: One for each closed episode.
        self._peaks: list[float] = []
        #: Depth and sample of the peak so far of the open episode, or of the stretch that may become an episode.
        self._farthest: tuple[float, Sample] | None = None

    def push(self, t: int, value: float) -> None:
        """Process the next reading; a reading from before the start only fills the window."""
        sample = self._sampler.push(t, value)
        if sample is None or t < self._start_us:
            return
        for timeline in self._timelines:
            timeline.push(sample)
        if self._timelines:
            return
        self._machine.step(sample)
        self._measure(sample)
        if self._other is not None:
            self._other.step(sample)
            self._look_at_other(sample)

    def finish(self) -> None:
        """Take the samples that are held after the last reading."""
        for timeline in self._timelines:
            timeline.pass_until(NEVER)

    @property
    def has_episodes(self) -> bool:
        return bool(self._machine.episodes)

    def found(self, edges: Edges) -> list[FoundEpisode]:
        """Return the episodes in order of time."""
        peaks = list(self._peaks)
        if self._farthest is not None and self._machine.open is not None:
            peaks.append(self._farthest[1].value)
        return [
            FoundEpisode(episode, peak, tuple(self._touched(episode, edges)))
            for episode, peak in zip(self._machine.episodes, peaks, strict=True)
        ]

    def _look_at_other(self, sample: Sample) -> None:
        if self._other is not None and self._other.open is None:
            self._certain_us, self._other = sample.t, None

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
        if start is None:  # a second metric does not allow the level
            self._farthest = None
            return
        if self._farthest is None or start == sample.t or depth > self._farthest[0]:
            self._farthest = depth, sample

    def _touched(self, episode: Episode, edges: Edges) -> Iterator[Edge]:
        rule = self._rule
        reach_us = rule.lookback_us + rule.value.window_us + rule.held_us + rule.max_age_us
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


def _episode_at_highest_level(rule: SeriesRule, t: int) -> Episode:
    """Return an open episode that started at t at the rule's most severe level."""
    return Episode(t, t, None, (Step(rule.levels[-1].name, t),))


def _depth(ranges: tuple[tuple[float, float], ...], value: float) -> float | None:
    """Return how far a value is inside the accepted ranges, to the nearest limit; None when it is outside."""
    return next((min(value - low, high - value) for low, high in ranges if low <= value <= high), None)
