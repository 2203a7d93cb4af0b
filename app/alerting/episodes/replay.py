"""Replay: updates stored episodes with new readings, at a cost in proportion to the new readings.

For each range of new times, the clocks of the machine are recovered from the samples in [p - D, p], where p is the last
sample before the range and D the longest duration of the rule. This is exact: a clock that started earlier has been
running for D by p, so the stored episode already has its level.

From there the machine takes all samples again. It stops at the first sample beyond the reach of the new readings at
which it agrees with the stored episodes; the later stored episodes stay as they are. This is exact too: every clock
that still matters at that sample started after the reach.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence

import msgspec

from app.alerting.episodes.machine import Episode, Machine, Memory, SeriesRule
from app.alerting.episodes.samples import Sample, Sampler, StoredReading
from app.alerting.episodes.timed import NEVER, TimedMachine, Timeline, Timing
from app.model import SeriesId

#: Number of readings in the first page. Each further page is twice as long, up to LARGEST_PAGE.
FIRST_PAGE = 128
LARGEST_PAGE = 16_384


class Want(msgspec.Struct, frozen=True, gc=False):
    """The readings that a replay needs next: at most `limit` readings with from_us <= t < to_us (None: no bound).

    They are the oldest readings of that range, or the newest if `newest` is set, always in ascending order of time.
    An answer of fewer than `limit` readings means that the range has no more.
    """

    from_us: int | None
    to_us: int | None
    limit: int
    newest: bool = False
    #: The companion whose readings they are; None: the series of the replay.
    series_id: SeriesId | None = None


class Replay(msgspec.Struct, frozen=True, gc=False):
    """The result of a replay."""

    #: The earliest new time within the era; None if no new reading is within it.
    from_us: int | None
    #: Time of the sample after which the stored episodes stay as they are; None if replayed to the newest reading.
    to_us: int | None
    #: The episodes that replace all given stored ones, in order of time.
    episodes: tuple[Episode, ...]
    #: Time of the newest reading evaluated so far.
    evaluated_to: int | None
    #: The clocks at `evaluated_to`, to be stored in the same transaction as the episodes; None if unknown.
    memory: Memory | None
    #: Whether a clock or the hold of `clear` ran after some sample of the replay.
    ran: bool = False
    #: The first held sample after the horizon, of a rule that holds values; None if there is none.
    next_due: int | None = None


ReadWanted = Callable[[Want], Sequence[StoredReading]]
#: A generator that yields wants, is sent the wanted readings and returns the replay. Many of them can share one query.
Replaying = Generator[Want, Sequence[StoredReading], Replay]


class Known(msgspec.Struct, frozen=True, gc=False):
    """The stored state of one rule and series before a replay."""

    #: At least all episodes that are open or ended at or after the earliest new time, in order of time.
    episodes: Sequence[Episode] = ()
    #: Time of the newest reading evaluated so far in this era; None before the first evaluation.
    evaluated_to: int | None = None
    #: The first microsecond of the era. Earlier readings are ignored. None: the era has no beginning.
    era_from: int | None = None
    memory: Memory | None = None
    #: The first held sample after the horizon of the last evaluation; None if there was none.
    next_due: int | None = None
    #: The episode that was open when the era began.
    inherited: Episode | None = None


def replay(
    rule: SeriesRule,
    known: Known,
    new: Iterable[tuple[int, int]],
    read: ReadWanted,
    first_page: int = FIRST_PAGE,
    timing: Timing | None = None,
) -> Replay:
    """Run `replaying` to its end, with a function that reads the wanted readings."""
    steps = replaying(rule, known, new, first_page, timing=timing)
    try:
        want = next(steps)
        while True:
            want = steps.send(read(want))
    except StopIteration as end:
        result: Replay = end.value
        return result


def replaying(
    rule: SeriesRule,
    known: Known,
    new: Iterable[tuple[int, int]],
    first_page: int = FIRST_PAGE,
    first_new_page: int | None = None,
    timing: Timing | None = None,
) -> Replaying:
    """Replay the readings in the new ranges (earliest time, latest time; both included). Ranges may be in any order.

    A range may also contain readings that were evaluated before. A new reading may be read before its range is
    given, as long as a later call gives the range. `first_new_page` is the length of the first page of readings from
    the new ones on, if it is known how many these are. A timed rule needs its `timing`; its ranges are also those in
    which companions have changed or held samples have come due.
    """
    ranges = deque(_within_era(new, known.era_from))
    from_us = ranges[0][0] if ranges else None
    result = Replay(from_us, None, tuple(known.episodes), known.evaluated_to, known.memory, next_due=known.next_due)
    while ranges:
        if timing is None:
            pass_ = _ReplayPass(rule, known, result, ranges)
        else:
            pass_ = _TimedPass(rule, known, result, ranges, timing)
        result = yield from pass_.run(first_page, first_new_page or first_page)
    return msgspec.structs.replace(result, from_us=from_us)


def _within_era(new: Iterable[tuple[int, int]], era_from: int | None) -> list[tuple[int, int]]:
    if era_from is None:
        return sorted(new)
    return sorted((max(first, era_from), last) for first, last in new if last >= era_from)


class _ReplayPass:
    """One pass over the samples from the first range on. It removes each range that it reaches from `ranges`."""

    def __init__(self, rule: SeriesRule, known: Known, before: Replay, ranges: deque[tuple[int, int]]) -> None:
        self._rule = rule
        self._era_from = known.era_from
        self._before = before
        self._fired = [episode.fired_at for episode in before.episodes]
        self._ranges = ranges
        self._start = ranges[0][0]
        self._newest = before.evaluated_to
        #: New readings may affect the samples up to this time, so the pass must not stop before it.
        self._reach = self._start
        self._sampler = Sampler(rule.value)
        #: From where on readings before the start may be missing in the window; the start if none is missing.
        self._older_from = self._start
        covering = self._stored_at(self._start - 1)
        self._open = covering and covering.as_of(self._start - 1)
        if known.inherited is not None:
            # It may have fired at the beginning of the era, or, by a held sample, after it.
            self._reach = max(self._reach, known.inherited.steps[-1].t)
            if self._start == known.era_from:
                self._open = known.inherited
        self._machine = Machine(rule, self._open)
        #: Takes the next stored sample.
        self._take: Callable[[Sample], None] = self._machine.step

    def run(self, first_page: int, first_new_page: int) -> Replaying:
        """Recover the clocks, then replay page by page until the machine agrees with the stored episodes or the end."""
        yield from self._recover(first_page)
        cursor, limit = self._start, first_new_page
        self._take_ranges(cursor)
        while True:
            page = yield Want(cursor, None, limit)
            if page:
                yield from self._read_older(page[-1][0], len(page))
            stop = self._replay_page(page)
            if stop is not None or len(page) < limit:
                return self._result(stop)
            cursor, limit = page[-1][0] + 1, min(2 * limit, LARGEST_PAGE)

    def _recover(self, first_page: int) -> Generator[Want, Sequence[StoredReading], None]:
        """Set the clocks and the window to their state before the first range."""
        memory, window_us = self._before.memory, self._rule.value.window_us
        if memory is not None and self._before.evaluated_to == memory.evaluated_to < self._start:
            self._machine.remember(memory)
            if self._rule.value.compares_ends:
                self._older_from = self._within_era(self._start - window_us)
            else:
                yield from self._look_back(self._start - window_us, first_page)
            return
        gap_us, lookback_us = self._rule.max_gap_us, self._rule.lookback_us
        # A gap longer than max_gap restarts the clocks, so an older last sample does not matter.
        floor = None if gap_us is None else self._start - gap_us - lookback_us - window_us
        samples_before = yield from self._look_back(floor, first_page)
        for sample in samples_before:
            if sample.t >= samples_before[-1].t - lookback_us:
                self._machine.tick(sample)

    def _look_back(self, floor: int | None, limit: int) -> Generator[Want, Sequence[StoredReading], list[Sample]]:
        """Fill the window and return the samples before the start. Samples before p - D may be wrong."""
        floor = self._era_from if floor is None else self._within_era(floor)
        readings: list[StoredReading] = []
        found: list[Sample] = []
        until = self._start
        while floor is None or floor < until:
            page = yield Want(floor, until, limit, newest=True)
            readings = [*page, *readings]
            self._sampler = Sampler(self._rule.value)
            found = [sample for t, value in readings if (sample := self._sampler.push(t, value)) is not None]
            if len(page) < limit or self._is_far_enough(page[0][0], found):
                break
            until, limit = page[0][0], min(2 * limit, LARGEST_PAGE)
        return found

    def _read_older(self, until: int, limit: int) -> Generator[Want, Sequence[StoredReading], None]:
        """Read the readings before the start that are the oldest in the window of a new reading up to `until`.

        These are about as many as the new readings, however many readings the windows contain.
        """
        older, last_from = self._sampler.older, until - self._rule.value.window_us
        limit = min(limit + 1, LARGEST_PAGE)  # one more for the first after `last_from`, if none is exactly there
        while self._older_from < self._start and not (older and older[-1][0] >= last_from):
            page = yield Want(self._older_from, self._start, limit)
            older.extend(page)
            self._older_from = page[-1][0] + 1 if len(page) == limit else self._start
            limit = min(2 * limit, LARGEST_PAGE)

    def _within_era(self, t: int) -> int:
        return t if self._era_from is None else max(t, self._era_from)

    def _is_far_enough(self, oldest: int, found: Sequence[Sample]) -> bool:
        # p is the last sample, not the last reading: `rate` and `delta` give no sample where readings are sparse.
        return bool(found) and oldest <= found[-1].t - self._rule.lookback_us - self._rule.value.window_us

    def _replay_page(self, page: Sequence[StoredReading]) -> int | None:
        """Replay a page; return the time of the sample at which the pass may stop, or None."""
        for t, value in page:
            self._take_ranges(t)
            self._newest = t if self._newest is None else max(t, self._newest)
            sample = self._sampler.push(t, value)
            if sample is not None:
                self._take(sample)
                if t > self._reach and self._agrees(t):
                    return t
        return None

    def _take_ranges(self, t: int) -> None:
        """Take the ranges that begin at or before `t`, and extend the reach by their window and longest duration."""
        while self._ranges and self._ranges[0][0] <= t:
            _, last = self._ranges.popleft()
            reach = last + self._rule.value.window_us + self._rule.lookback_us + self._rule.held_us
            self._reach = max(self._reach, reach)

    def _agrees(self, t: int) -> bool:
        evaluated_to = self._before.evaluated_to
        if evaluated_to is None or t > evaluated_to:
            return False
        stored = self._stored_at(t)
        as_stored = stored and stored.as_of(t)
        return self._machine.level == (as_stored and as_stored.level)

    def _stored_at(self, t: int) -> Episode | None:
        """Return the stored episode that was open after the sample at `t`, or None."""
        index = bisect_right(self._fired, t) - 1
        if index < 0:
            return None
        episode = self._before.episodes[index]
        return None if episode.resolved_at is not None and episode.resolved_at <= t else episode

    def _result(self, stop: int | None) -> Replay:
        machine, stored = self._machine, self._before.episodes
        ran = self._before.ran or machine.ran
        kept = [each for each in stored if each.resolved_at is not None and each.resolved_at < self._start]
        if stop is None:
            newest, memory = self._newest, None if self._newest is None else machine.memory(self._newest)
            return Replay(self._start, None, (*kept, *machine.episodes), newest, memory, ran, self._next_due(None))
        later = [each for each in stored if each.fired_at > stop]
        episodes = (*kept, *machine.closed, *self._joined(stop), *later)
        return Replay(self._start, stop, episodes, self._newest, self._before.memory, ran, self._next_due(stop))

    def _next_due(self, stop: int | None) -> int | None:
        return None

    def _joined(self, stop: int) -> list[Episode]:
        """Return the episode that is open at the stop, as a list: replayed until the stop, as stored after it."""
        stored, replayed = self._stored_at(stop), self._machine.open
        if stored is None or replayed is None:
            return []
        steps = (*replayed.steps, *(step for step in stored.steps if step.t > stop))
        return [Episode(replayed.started_at, replayed.fired_at, stored.resolved_at, steps)]


class _TimedPass(_ReplayPass):
    """A pass over the samples of a timed rule, with the readings of its companions.

    The clocks are always recovered from the readings. What is stored of them would miss the companions' readings.
    """

    def __init__(
        self, rule: SeriesRule, known: Known, before: Replay, ranges: deque[tuple[int, int]], timing: Timing
    ) -> None:
        super().__init__(rule, known, before, ranges)
        self._machine: TimedMachine = TimedMachine(rule, self._open)
        self._timing = timing
        self._timeline = Timeline(rule, self._machine, timing)
        self._take = self._timeline.push

    def run(self, first_page: int, first_new_page: int) -> Replaying:
        """Recover the clocks, then replay page by page until the machine agrees with the stored episodes or the end."""
        yield from self._recover(first_page)
        cursor, limit = self._start, max(first_page, 2)
        self._take_ranges(cursor)
        while True:
            page = yield Want(cursor, None, limit)
            is_last = len(page) < limit
            yield from self._read_companions(cursor, None if is_last else page[-1][0] + 1)
            stop = self._replay_page(page)
            if stop is not None:
                return self._result(stop)
            if is_last:
                self._timeline.pass_until(NEVER)
                self._ranges.clear()
                return self._result(None)
            cursor, limit = page[-1][0] + 1, min(2 * limit, LARGEST_PAGE)

    def _recover(self, first_page: int) -> Generator[Want, Sequence[StoredReading], None]:
        gap_us, lookback_us, window_us = self._rule.max_gap_us, self._rule.lookback_us, self._rule.value.window_us
        # The value of the sample before is held into the needed time, at most for max_gap.
        floor = None if gap_us is None else self._start - gap_us - self._rule.held_us - lookback_us - window_us
        before = yield from self._look_back(floor, first_page)
        first = bisect_left(before, before[-1].t - lookback_us, key=lambda each: each.t) if before else 0
        needed = before[max(first - 1, 0) if self._rule.holds else first :]
        yield from self._read_known_companions(needed[0].t if needed else self._start)
        self._timeline.only_ticks = True
        for sample in needed:
            self._timeline.push(sample)
        self._timeline.pass_until(self._start)
        self._timeline.only_ticks = False

    def _read_known_companions(self, at: int) -> Generator[Want, Sequence[StoredReading], None]:
        """Read the last reading of each companion up to a time, and those from then on to the start."""
        for number, companion in enumerate(self._timing.companions):
            last = yield Want(at - companion.max_age_us, at + 1, 1, newest=True, series_id=companion.series_id)
            self._timeline.add_readings(number, last)
        if at + 1 < self._start:
            yield from self._read_companions(at + 1, self._start)

    def _read_companions(self, from_us: int, to_us: int | None) -> Generator[Want, Sequence[StoredReading], None]:
        """Read what companions have from a time to another, which is excluded."""
        for number, companion in enumerate(self._timing.companions):
            cursor, limit = from_us, FIRST_PAGE
            while True:
                page = yield Want(cursor, to_us, limit, series_id=companion.series_id)
                self._timeline.add_readings(number, page)
                if len(page) < limit:
                    break
                cursor, limit = page[-1][0] + 1, min(2 * limit, LARGEST_PAGE)

    def _agrees(self, t: int) -> bool:
        next_due = self._before.next_due
        return (next_due is None or t < next_due) and super()._agrees(t)

    def _next_due(self, stop: int | None) -> int | None:
        before, due = self._before.next_due, self._timeline.next_due
        if before is not None and (before < self._start or stop is not None):
            due = min(due, before)  # it is not within this pass, which does not stop after it
        return None if due == NEVER else due
