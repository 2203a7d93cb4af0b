"""Samples that no reading brings: held values, and what the readings of a second metric change between samples.

`Timeline` gives a machine the samples of one era in order of time. Between two stored samples it adds those held ones
that can change something, each as soon as it is due: where a clock reaches its duration, where a companion has a
reading, and where a companion becomes unknown. A companion is a series of a second metric.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from app.alerting.conditions import Condition, predicate
from app.alerting.episodes.machine import Episode, Machine, SeriesRule
from app.alerting.episodes.samples import Sample, StoredReading
from app.model import SeriesId

#: Later than every time.
NEVER = 2**62


class Companion(msgspec.Struct, frozen=True):
    """A series of a second metric: its known value must meet the condition for the levels to count."""

    series_id: SeriesId
    condition: Condition
    max_age_us: int
    metric: str = ""


class Timing(msgspec.Struct, frozen=True):
    """What decides the samples of a timed rule besides the readings of the series."""

    #: Held samples are not later than this.
    horizon_us: int
    companions: tuple[Companion, ...] = ()


class TimedMachine(Machine):
    """A machine whose levels count only while they are `allowed`, and which takes held samples."""

    __slots__ = ("allowed",)

    def __init__(self, rule: SeriesRule, open_episode: Episode | None = None) -> None:
        super().__init__(rule, open_episode)
        self.allowed = True

    def tick(self, sample: Sample) -> int:
        """Update the clocks as a machine does; while the levels are not allowed, no level is met."""
        if self.allowed:
            return super().tick(sample)
        last, self._sample_at = self._sample_at, sample.t
        is_after_hole = self._max_gap_us is not None and last is not None and sample.t - last > self._max_gap_us
        self.stop_levels()
        if self._clear is not None and not self._clear(sample.value):
            self._hold = None
        elif self._hold is None or is_after_hole:
            self._hold = sample.t
            self.ran |= self.open is not None
        return 0

    def stop_levels(self) -> None:
        """Stop the clocks of all levels."""
        self._starts = [None] * len(self._starts)

    def hold(self, sample: Sample, take: Callable[[Sample], object]) -> None:
        """Let `take`, a method of this machine, take a held sample. Holes lie between stored samples only."""
        stored_at, self._sample_at = self._sample_at, None
        take(sample)
        self._sample_at = stored_at

    def next_due(self, after: int) -> int:
        """Return the first time after `after` at which a clock that can change something reaches its duration."""
        first_rank = 0 if self.open is None else self._rank
        due = [
            start + for_us
            for start, (_, for_us) in zip(self._starts[first_rank:], self._levels[first_rank:], strict=True)
            if start is not None and start + for_us > after
        ]
        if self.open is not None and self._hold is not None and self._hold + self._clear_for_us > after:
            due.append(self._hold + self._clear_for_us)
        return min(due, default=NEVER)

    def may_change_by(self, value: float) -> bool:
        """Return whether a held value matters when a companion changes."""
        return self.open is not None or self._levels[0][0](value)


class Timeline:
    """The samples of one era in order of time, given to a machine. It begins without a sample."""

    def __init__(self, rule: SeriesRule, machine: TimedMachine, timing: Timing) -> None:
        self._machine = machine
        self._companions = timing.companions
        self._is_met = [predicate(each.condition) for each in timing.companions]
        self._horizon_us = timing.horizon_us
        self._held_us = rule.held_us
        #: Whether samples only move the clocks, because the episodes up to here are known.
        self.only_ticks = False
        #: The first held sample that is due after the horizon; NEVER if there is none.
        self.next_due = NEVER
        self._stored: Sample | None = None
        #: Time of the last sample or change.
        self._at = -NEVER
        #: The newest reading of each companion up to `_at`, and those that follow.
        self._known: list[StoredReading | None] = [None] * len(timing.companions)
        self._coming: list[deque[StoredReading]] = [deque() for _ in timing.companions]

    def add_readings(self, companion: int, readings: Iterable[StoredReading]) -> None:
        """Add the next readings of a companion, in order of time."""
        self._coming[companion].extend(readings)

    def push(self, sample: Sample) -> None:
        """Take the next stored sample, after all that comes before it."""
        self.pass_until(sample.t)
        self._learn(sample.t)
        self._machine.allowed = self._is_allowed(sample.t)
        self._take(sample)
        self._stored = sample

    def pass_until(self, end_us: int) -> None:
        """Take the held samples and the changes of companions that come before a time."""
        while (at := self._next_change()) < end_us:
            self._change(at)

    def _next_change(self) -> int:
        coming = min((readings[0][0] for readings in self._coming if readings), default=NEVER)
        if self._stored is None or not self._held_us:
            return coming
        held = min(self._machine.next_due(self._at), self._next_unknown())
        return min(coming, held if held <= self._stored.t + self._held_us else NEVER)

    def _next_unknown(self) -> int:
        ends = [
            known[0] + companion.max_age_us + 1
            for known, companion in zip(self._known, self._companions, strict=True)
            if known is not None and known[0] + companion.max_age_us >= self._at
        ]
        return min(ends, default=NEVER)

    def _change(self, at: int) -> None:
        has_reading = self._learn(at)
        allowed = self._is_allowed(at)
        stored = self._stored
        if stored is not None and at <= stored.t + self._held_us and at <= self._horizon_us:
            self._machine.allowed = allowed
            self._machine.hold(Sample(at, stored.value), self._take)
            return
        if stored is not None and at <= stored.t + self._held_us and not self.only_ticks and self._matters(at, stored):
            self.next_due = min(self.next_due, at)
        if has_reading and not allowed:
            self._machine.stop_levels()

    def _matters(self, at: int, stored: Sample) -> bool:
        return self._machine.next_due(at - 1) == at or self._machine.may_change_by(stored.value)

    def _learn(self, at: int) -> bool:
        """Let the readings of companions up to a time be known; return whether there are any."""
        self._at = at
        found = False
        for number, coming in enumerate(self._coming):
            while coming and coming[0][0] <= at:
                self._known[number] = coming.popleft()
                found = True
        return found

    def _is_allowed(self, at: int) -> bool:
        """Return whether no companion that is known fails its condition."""
        return not any(
            known is not None and at - known[0] <= companion.max_age_us and not is_met(known[1])
            for known, companion, is_met in zip(self._known, self._companions, self._is_met, strict=True)
        )

    def _take(self, sample: Sample) -> None:
        if self.only_ticks:
            self._machine.tick(sample)
        else:
            self._machine.step(sample)


def run_timed(
    rule: SeriesRule,
    era_samples: Iterable[Sample],
    timing: Timing,
    companion_readings: Sequence[Iterable[StoredReading]] = (),
    open_episode: Episode | None = None,
) -> list[Episode]:
    """Return the episodes of one era of a timed rule; `companion_readings` are those of each companion, in order."""
    machine = TimedMachine(rule, open_episode)
    timeline = Timeline(rule, machine, timing)
    for number, readings in enumerate(companion_readings):
        timeline.add_readings(number, readings)
    for sample in era_samples:
        timeline.push(sample)
    timeline.pass_until(NEVER)
    return machine.episodes
