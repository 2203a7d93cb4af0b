"""Episodes: a pure function of the rule and of one era's stored readings.

Times are microseconds since 1970, durations microseconds, counted between samples, never on the wall clock.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from app.alerting.conditions import Condition, predicate
from app.alerting.episodes.samples import Sample, ValueOf
from app.model import severity


class Level(msgspec.Struct, frozen=True):
    """One level of a rule: it holds once its condition has held for `for_us`."""

    name: str
    condition: Condition
    for_us: int = 0


class SeriesRule(msgspec.Struct, frozen=True):
    """What a rule says for one series, overrides applied.

    Levels come least severe first, each implying the one before; `clear` never holds together with the first.
    """

    value: ValueOf
    levels: tuple[Level, ...]
    #: None: no longer past the lowest level.
    clear: Condition | None = None
    clear_for_us: int = 0
    max_gap_us: int | None = None

    @property
    def lookback_us(self) -> int:
        """How long before a sample the machine's clocks may have started and still matter."""
        return max(self.clear_for_us, *(level.for_us for level in self.levels))

    def digest(self) -> str:
        """Hash what the rule says: the same for another spelling that accepts the same values."""
        says = (
            (self.value.kind, self.value.window_us),
            tuple((level.name, _values(level.condition), level.for_us) for level in self.levels),
            None if self.clear is None else _values(self.clear),
            self.clear_for_us,
            self.max_gap_us,
        )
        return hashlib.sha256(repr(says).encode()).hexdigest()


class Step(msgspec.Struct, frozen=True, gc=False):
    """The level that an episode had from `t` on."""

    level: str
    t: int


class Episode(msgspec.Struct, frozen=True, gc=False):
    """One stretch of firing; the first step is the level that it fired at, the levels only rise."""

    started_at: int
    fired_at: int
    resolved_at: int | None
    steps: tuple[Step, ...]

    @property
    def level(self) -> str:
        """The level it has, or had in the end."""
        return self.steps[-1].level

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None

    @property
    def span(self) -> tuple[int, int | None]:
        """When it was true, both ends included; None: endless so far."""
        return self.started_at, self.resolved_at

    def as_of(self, t: int) -> "Episode | None":
        """Show it as it stood after the sample at `t`, None before it fired."""
        if self.fired_at > t:
            return None
        resolved_at = None if self.resolved_at is None or self.resolved_at > t else self.resolved_at
        steps = tuple(step for step in self.steps if step.t <= t)
        return Episode(self.started_at, self.fired_at, resolved_at, steps)


class Memory(msgspec.Struct, frozen=True, gc=False):
    """A machine's clocks after the reading at `evaluated_to`: a cache, for samples tell as much."""

    evaluated_to: int
    #: Time of the last sample, None before the first.
    sample_at: int | None
    #: When each level's clock started, None where it stands still.
    starts: tuple[int | None, ...]
    #: Since when `clear` has held.
    hold: int | None


class Machine:
    """The machine of one rule, fed with the samples of one era in order of time.

    It begins clear or in an episode that is still open. `closed` are the episodes resolved since.
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
        #: How many of the rule's levels are no more severe than the open episode's; firing sets it anew.
        self._rank = 0 if open_episode is None else _rank(rule, open_episode.level)

    @property
    def level(self) -> str | None:
        """The open episode's level, None while clear."""
        return None if self.open is None else self.open.level

    @property
    def episodes(self) -> list[Episode]:
        """All of them, in order of time, the open one last."""
        return self.closed if self.open is None else [*self.closed, self.open]

    def step(self, sample: Sample) -> None:
        """Take the next sample: fire, rise, resolve or stay."""
        held = self.tick(sample)
        episode = self.open
        if episode is None:
            if held:
                self._fire(held, sample.t)
        elif held > self._rank:
            self._raise(episode, held, sample.t)
        elif self._hold is not None and sample.t - self._hold >= self._clear_for_us:
            self._resolve(episode, sample.t)

    def tick(self, sample: Sample) -> int:
        """Run the clocks only, and give the most severe level that holds, counted from 1, 0 for none.

        The clear-hold runs while clear, too: firing needs a sample past the lowest level, which stops it.
        """
        t, value = sample.t, sample.value
        last, self._sample_at = self._sample_at, t
        hole = self._max_gap_us is not None and last is not None and t - last > self._max_gap_us
        starts = self._starts
        held = 0
        for rank, (past, for_us) in enumerate(self._levels):
            if past(value):
                start = starts[rank]
                if start is None or hole:
                    start = starts[rank] = t
                if t - start >= for_us:
                    held = rank + 1
            else:
                starts[rank] = None
        if not (starts[0] is None if self._clear is None else self._clear(value)):
            self._hold = None
        elif self._hold is None or hole:
            self._hold = t
        return held

    def memory(self, evaluated_to: int) -> Memory:
        """Write down the clocks, to go on from the reading at `evaluated_to` later."""
        return Memory(evaluated_to, self._sample_at, tuple(self._starts), self._hold)

    def remember(self, memory: Memory) -> None:
        """Set the clocks as they were written down by a machine of the same rule and era."""
        self._sample_at, self._starts, self._hold = memory.sample_at, list(memory.starts), memory.hold

    def _fire(self, rank: int, t: int) -> None:
        start = self._starts[0]
        # Clock 1 runs whenever a higher one does: `check` refuses levels that do not imply the one below.
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
    """Give one era's episodes in order of time; it begins clear or in an episode left open before it."""
    machine = Machine(rule, open_episode)
    for sample in era_samples:
        machine.step(sample)
    return machine.episodes


def _values(condition: Condition) -> tuple[tuple[float, float], ...]:
    return tuple((float(low), float(high)) for low, high in condition.ranges())


def _rank(rule: SeriesRule, level: str) -> int:
    return sum(severity(each.name) <= severity(level) for each in rule.levels)
