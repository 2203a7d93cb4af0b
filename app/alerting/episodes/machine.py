"""State machine that computes the episodes of one rule and series from the samples of one era.

Times are microseconds since 1970. Durations are microseconds between samples; the wall clock is never used.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from app.alerting.conditions import Condition, predicate
from app.alerting.episodes.samples import Sample, ValueOf
from app.model import severity


class Level(msgspec.Struct, frozen=True):
    """One level of a rule. It holds once its condition has been true for `for_us`."""

    name: str
    condition: Condition
    for_us: int = 0


class SecondMetric(msgspec.Struct, frozen=True):
    """A metric whose known values must meet a condition for the levels to count."""

    metric: str
    condition: Condition
    #: A reading that is older is not known any more.
    max_age_us: int
    #: Names of tags that the sensors have in common; empty: it is the same sensor.
    same: tuple[str, ...] = ()


class SeriesRule(msgspec.Struct, frozen=True):
    """The terms of a rule for one series that decide its episodes, with overrides applied.

    Levels are in order of severity, least severe first. The condition of each level implies that of the level before.
    No value satisfies both `clear` and the condition of the first level.
    """

    value: ValueOf
    levels: tuple[Level, ...]
    #: None: the condition of the first level is false.
    clear: Condition | None = None
    clear_for_us: int = 0
    max_gap_us: int | None = None
    #: Whether a value counts until the next one, at most for `max_gap_us`.
    holds: bool = False
    when: tuple[SecondMetric, ...] = ()

    @property
    def is_timed(self) -> bool:
        """Return whether episodes may change between readings, or by readings of other series."""
        return self.holds or bool(self.when)

    @property
    def held_us(self) -> int:
        """How long a reading counts at most after its own time."""
        return (self.max_gap_us or 0) if self.holds else 0

    @property
    def max_age_us(self) -> int:
        """The longest time for which a reading of a second metric is known."""
        return max((each.max_age_us for each in self.when), default=0)

    @property
    def lookback_us(self) -> int:
        """The longest duration of the rule: clocks that started longer before a sample need no replay."""
        return max(self.clear_for_us, *(level.for_us for level in self.levels))

    def digest(self) -> str:
        """Return a hash of these terms. It is equal for conditions that are written differently but accept the same."""
        content: tuple[Any, ...] = (
            (self.value.name, self.value.window_us),
            tuple((level.name, _values(level.condition), level.for_us) for level in self.levels),
            None if self.clear is None else _values(self.clear),
            self.clear_for_us,
            self.max_gap_us,
        )
        if self.is_timed:  # other rules have the hashes that they had before there were such rules
            when = tuple((each.metric, _values(each.condition), each.max_age_us, each.same) for each in self.when)
            content = (*content, self.holds, when)
        return hashlib.sha256(repr(content).encode()).hexdigest()


class Step(msgspec.Struct, frozen=True, gc=False):
    """A level of an episode and the time `t` at which it was reached."""

    level: str
    t: int


class Episode(msgspec.Struct, frozen=True, gc=False):
    """A period during which a rule fires for a series.

    The first step is the level at which it fired. The levels of the steps only rise.
    """

    started_at: int
    fired_at: int
    resolved_at: int | None
    steps: tuple[Step, ...]

    @property
    def level(self) -> str:
        """The level of the last step."""
        return self.steps[-1].level

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None

    @property
    def span(self) -> tuple[int, int | None]:
        """Start and end, both included; an open episode has the end None."""
        return self.started_at, self.resolved_at

    def as_of(self, t: int) -> "Episode | None":
        """Return the episode as it was after the sample at `t`, or None if it had not fired yet."""
        if self.fired_at > t:
            return None
        resolved_at = None if self.resolved_at is None or self.resolved_at > t else self.resolved_at
        steps = tuple(step for step in self.steps if step.t <= t)
        return Episode(self.started_at, self.fired_at, resolved_at, steps)


class Memory(msgspec.Struct, frozen=True, gc=False):
    """The clocks of a machine after the reading at `evaluated_to`. It is a cache: samples can restore the clocks."""

    evaluated_to: int
    #: Time of the last sample; None before the first one.
    sample_at: int | None
    #: Time at which the clock of each level started; None if it is stopped.
    starts: tuple[int | None, ...]
    #: Time since which `clear` has been true in an open episode; None if it is false or no episode is open.
    hold: int | None

    @property
    def is_running(self) -> bool:
        """Return whether a clock or the hold of `clear` runs, so that time alone may change the episodes."""
        return self.hold is not None or self.starts.count(None) < len(self.starts)


class Machine:
    """State machine of one rule and series. It takes the samples of one era in order of time.

    It begins clear, or in an episode that is still open. `closed` holds the episodes that it resolved, `open` the
    open one.
    """

    __slots__ = (
        "_clear",
        "_clear_for_us",
        "_hold",
        "_levels",
        "_max_gap_us",
        "_rank",
        "_rule",
        "_sample_at",
        "_starts",
        "closed",
        "open",
        "ran",
    )

    def __init__(self, rule: SeriesRule, open_episode: Episode | None = None) -> None:
        self._rule = rule
        self._levels = tuple((predicate(level.condition), level.for_us) for level in rule.levels)
        self._clear = None if rule.clear is None else predicate(rule.clear)
        self._clear_for_us = rule.clear_for_us
        self._max_gap_us = rule.max_gap_us
        self._starts: list[int | None] = [None] * len(rule.levels)
        self._hold: int | None = None
        self._sample_at: int | None = None
        self.closed: list[Episode] = []
        self.open = open_episode
        #: Whether a level's clock ran after some sample, or the hold of `clear` in an open episode.
        self.ran = False
        #: Number of the rule's levels that are at most as severe as the open episode. Firing sets it again.
        self._rank = 0 if open_episode is None else rank_of(rule, open_episode.level)

    @property
    def level(self) -> str | None:
        """The level of the open episode; None while clear."""
        return None if self.open is None else self.open.level

    @property
    def episodes(self) -> list[Episode]:
        """All episodes in order of time, the open one last."""
        return self.closed if self.open is None else [*self.closed, self.open]

    def step(self, sample: Sample) -> None:
        """Take the next sample, which may start an episode, raise its level or resolve it."""
        holding_rank = self.tick(sample)
        episode = self.open
        if episode is None:
            if holding_rank:
                self._fire(holding_rank, sample.t)
        elif holding_rank > self._rank:
            self._raise(episode, holding_rank, sample.t)
        elif self._hold is not None and sample.t - self._hold >= self._clear_for_us:
            self._resolve(episode, sample.t)

    def tick(self, sample: Sample) -> int:
        """Update only the clocks; return the rank of the most severe level that holds, from 1, or 0 if none holds.

        The clock of `clear` also runs while the machine is clear. That does no harm: firing needs a sample that meets
        the first level, and such a sample stops it.
        """
        t, value = sample.t, sample.value
        last, self._sample_at = self._sample_at, t
        is_after_hole = self._max_gap_us is not None and last is not None and t - last > self._max_gap_us
        starts = self._starts
        holding_rank = 0
        for index, (is_met, for_us) in enumerate(self._levels):
            if is_met(value):
                start = starts[index]
                if start is None or is_after_hole:
                    start = starts[index] = t
                    self.ran = True
                if t - start >= for_us:
                    holding_rank = index + 1
            else:
                starts[index] = None
        if not (starts[0] is None if self._clear is None else self._clear(value)):
            self._hold = None
        elif self._hold is None or is_after_hole:
            self._hold = t
            self.ran |= self.open is not None
        return holding_rank

    def memory(self, evaluated_to: int) -> Memory:
        """Return the clocks, so that another machine can continue after the reading at `evaluated_to`."""
        hold = None if self.open is None else self._hold
        return Memory(evaluated_to, self._sample_at, tuple(self._starts), hold)

    def remember(self, memory: Memory) -> None:
        """Restore the clocks from the memory of a machine of the same rule and era."""
        self._sample_at, self._starts, self._hold = memory.sample_at, list(memory.starts), memory.hold
        self.ran |= memory.is_running

    def _fire(self, rank: int, t: int) -> None:
        start = self._starts[0]
        # The first clock runs whenever a higher one does: `check` refuses levels that do not imply the one before.
        started_at = t if start is None else start
        self.open = Episode(started_at, t, None, (self._step_to(rank, t),))

    def _raise(self, episode: Episode, rank: int, t: int) -> None:
        steps = (*episode.steps, self._step_to(rank, t))
        self.open = msgspec.structs.replace(episode, steps=steps)

    def _resolve(self, episode: Episode, t: int) -> None:
        self.closed.append(msgspec.structs.replace(episode, resolved_at=t))
        self.open = None

    def _step_to(self, rank: int, t: int) -> Step:
        self._rank = rank
        return Step(self._rule.levels[rank - 1].name, t)


def run(rule: SeriesRule, era_samples: Iterable[Sample], open_episode: Episode | None = None) -> list[Episode]:
    """Return the episodes of one era in order of time. The era begins clear, or in an episode that was open before."""
    machine = Machine(rule, open_episode)
    for sample in era_samples:
        machine.step(sample)
    return machine.episodes


def _values(condition: Condition) -> tuple[tuple[float, float], ...]:
    return tuple((float(low), float(high)) for low, high in condition.ranges())


def rank_of(rule: SeriesRule, level: str) -> int:
    """Return the number of the rule's levels that are at most as severe as this level."""
    return sum(severity(each.name) <= severity(level) for each in rule.levels)
