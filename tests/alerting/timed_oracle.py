"""Test oracle for rules that hold values or look at a second metric: naive, and without state.

It was written from the specification alone. It adds one sample after the other, in order of time, and finds every clock
by walking back over all samples so far.
"""

from collections.abc import Sequence

import msgspec

from app.alerting.conditions import Condition
from app.alerting.episodes.machine import Episode, SeriesRule, Step
from app.alerting.episodes.samples import StoredReading
from app.alerting.episodes.timed import Companion
from tests.alerting.oracle import ORDER, first_stored, meets, oracle_samples

Readings = Sequence[StoredReading]


class Taken(msgspec.Struct, frozen=True):
    """A sample, stored or held, and whether no known companion fails then."""

    t: int
    value: float
    allowed: bool
    is_stored: bool


class TimedOracle:
    """The episodes of one era up to a horizon. `companions` have their readings in order of arrival."""

    def __init__(
        self,
        rule: SeriesRule,
        arrived: Readings,
        companions: Sequence[tuple[Companion, Readings]],
        horizon_us: int,
        inherited: Episode | None = None,
    ) -> None:
        self.rule = rule
        self.stored = oracle_samples(rule.value, arrived)
        self.companions = [(companion, first_stored(readings)) for companion, readings in companions]
        self.horizon_us = horizon_us
        self.taken: list[Taken] = []
        self.closed: list[Episode] = []
        self.episode = inherited
        #: When the open episode fired in this era; before all samples if it was open before.
        self.fired_at = -1

    def episodes(self) -> list[Episode]:
        for i, sample in enumerate(self.stored):
            self.take(Taken(sample.t, sample.value, self.allowed(sample.t), is_stored=True))
            following = self.stored[i + 1].t if i + 1 < len(self.stored) else None
            while (d := self.next_held(sample.t, following)) is not None:
                self.take(Taken(d, sample.value, self.allowed(d), is_stored=False))
        return [*self.closed, self.episode] if self.episode is not None else self.closed

    def allowed(self, t: int) -> bool:
        """W(t): no known companion fails its condition."""
        for companion, readings in self.companions:
            known = [(u, value) for u, value in readings if u <= t and t - u <= companion.max_age_us]
            if known and not meets(companion.condition, known[-1][1]):
                return False
        return True

    def next_held(self, t: int, n: int | None) -> int | None:
        """Return the next time after the last sample at which the sample stored at `t` counts again."""
        rule, now = self.rule, self.taken[-1].t
        if not rule.holds or rule.max_gap_us is None:
            return None
        times = {u for _, readings in self.companions for u, _ in readings}
        times |= {
            u + companion.max_age_us + 1
            for companion, readings in self.companions
            for k, (u, _) in enumerate(readings)
            if k + 1 == len(readings) or readings[k + 1][0] > u + companion.max_age_us + 1
        }
        for level in rule.levels:
            start = self.clock(level.condition)
            times |= set() if start is None else {start + level.for_us}
        hold = self.clear_hold()
        times |= set() if hold is None or self.episode is None else {hold + rule.clear_for_us}
        last = min(t + rule.max_gap_us, self.horizon_us)
        return min((d for d in times if now < d <= last and (n is None or d < n)), default=None)

    def take(self, sample: Taken) -> None:
        self.taken.append(sample)
        holding = []
        for level in self.rule.levels:
            start = self.clock(level.condition)
            if start is not None and sample.t - start >= level.for_us:
                holding.append(level.name)
        if self.episode is None:
            if holding:
                started = self.clock(self.rule.levels[0].condition)
                assert started is not None
                self.episode = Episode(started, sample.t, None, (Step(holding[-1], sample.t),))
                self.fired_at = sample.t
        elif holding and ORDER.index(holding[-1]) > ORDER.index(self.episode.level):
            steps = (*self.episode.steps, Step(holding[-1], sample.t))
            self.episode = Episode(self.episode.started_at, self.episode.fired_at, None, steps)
        else:
            hold = self.clear_hold()
            if hold is not None and sample.t - hold >= self.rule.clear_for_us:
                episode = self.episode
                self.closed.append(Episode(episode.started_at, episode.fired_at, sample.t, episode.steps))
                self.episode = None

    def clock(self, condition: Condition) -> int | None:
        """Return when the clock of a level that runs after the last sample started, or None."""

        def counts(sample: Taken) -> bool:
            return sample.allowed and meets(condition, sample.value)

        i = len(self.taken) - 1
        if not counts(self.taken[i]):
            return None
        while i > 0 and not self.is_hole(i) and counts(self.taken[i - 1]) and not self.is_stopped_before(i):
            i -= 1
        return self.taken[i].t

    def is_stopped_before(self, i: int) -> bool:
        """Return whether a companion has a reading between two samples at which W fails."""
        t, before = self.taken[i].t, self.taken[i - 1].t
        times = [u for _, readings in self.companions for u, _ in readings if before < u < t]
        return any(not self.allowed(u) for u in times)

    def clear_hold(self) -> int | None:
        """Return when `clear` began to hold in the open episode, or None."""
        lowest = self.rule.levels[0].condition

        def clears(sample: Taken) -> bool:
            if self.rule.clear is None:
                return not (sample.allowed and meets(lowest, sample.value))
            return meets(self.rule.clear, sample.value)

        i = len(self.taken) - 1
        if self.episode is None or not clears(self.taken[i]):
            return None
        while i > 0 and self.taken[i - 1].t > self.fired_at and not self.is_hole(i) and clears(self.taken[i - 1]):
            i -= 1
        return self.taken[i].t

    def is_hole(self, i: int) -> bool:
        """Return whether there is a hole before a sample: between stored samples only."""
        if not self.taken[i].is_stored or self.rule.max_gap_us is None:
            return False
        before = [sample.t for sample in self.taken[:i] if sample.is_stored]
        return bool(before) and self.taken[i].t - before[-1] > self.rule.max_gap_us
