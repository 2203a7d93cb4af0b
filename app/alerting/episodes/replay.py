"""Bring stored episodes up to date with new readings, at a cost in proportion to what is new.

The memory is the stored episodes. For each range of new times the machine's clocks are recovered from the
samples in [p - D, p], p the last sample before the range, D the rule's longest `for`. That is exact: a clock
that started earlier has held by p, so its level is in the stored episode already, and it no longer matters.
From there the samples are taken anew until, past the reach of the new readings, the machine agrees with what
is stored; the rest stands. That is exact, too: whatever clock still matters then started after that reach.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence

import msgspec

from app.alerting.conditions import predicate
from app.alerting.episodes.machine import Episode, Machine, Memory, SeriesRule
from app.alerting.episodes.samples import Sample, Sampler, StoredReading

#: How many readings the first page asks for; each further page of a walk asks for twice as many.
FIRST_PAGE = 128
LARGEST_PAGE = 16_384


class Want(msgspec.Struct, frozen=True, gc=False):
    """Readings that a replay needs next: at most `limit` with from_us <= t < to_us (None: no bound).

    The oldest of them, or the newest if `newest`; in either case in ascending order of time.
    Fewer than `limit` means that there are no more.
    """

    from_us: int | None
    to_us: int | None
    limit: int
    newest: bool = False


class Replay(msgspec.Struct, frozen=True, gc=False):
    """What a replay came to."""

    #: The earliest new time within the era, None if there was none.
    from_us: int | None
    #: The sample from which on the stored episodes stand, None: replayed to the newest.
    to_us: int | None
    #: What is true now in place of all the stored episodes that were given, in order of time.
    episodes: tuple[Episode, ...]
    #: Time of the newest reading evaluated so far.
    evaluated_to: int | None
    #: Clocks at `evaluated_to`, to be kept in the same transaction as the episodes, or None if unknown.
    memory: Memory | None


ReadWanted = Callable[[Want], Sequence[StoredReading]]
#: Yields what it needs, is sent the readings, returns the result: any number of these can share one query.
Replaying = Generator[Want, Sequence[StoredReading], Replay]


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is stored about one rule and series before a replay."""

    #: All that ended at or after the earliest new time or are open, in order of time; more do no harm.
    episodes: Sequence[Episode] = ()
    #: Time of the newest reading evaluated so far in this era, None before the first evaluation.
    evaluated_to: int | None = None
    #: The era's first microsecond; readings before it do not exist for the rule. None: unbounded.
    era_from: int | None = None
    memory: Memory | None = None


def replay(
    rule: SeriesRule,
    known: Known,
    new: Iterable[tuple[int, int]],
    read: ReadWanted,
    first_page: int = FIRST_PAGE,
) -> Replay:
    """Run `replaying` with readings that can be had at once."""
    steps = replaying(rule, known, new, first_page)
    try:
        want = next(steps)
        while True:
            want = steps.send(read(want))
    except StopIteration as end:
        result: Replay = end.value
        return result


def replaying(
    rule: SeriesRule, known: Known, new: Iterable[tuple[int, int]], first_page: int = FIRST_PAGE
) -> Replaying:
    """Take in the readings of the given ranges of time (earliest, latest; both included; in any order).

    Ranges may hold old readings, too. Readings may be seen before their range is given, so long as it comes
    in the end.
    """
    ranges = deque(_within_era(new, known.era_from))
    from_us = ranges[0][0] if ranges else None
    result = Replay(from_us, None, tuple(known.episodes), known.evaluated_to, known.memory)
    while ranges:
        result = yield from _Passage(rule, known.era_from, result, ranges).through(first_page)
    return msgspec.structs.replace(result, from_us=from_us)


def skip(rule: SeriesRule, known: Known, new: Sequence[StoredReading]) -> Memory | None:
    """Give the memory after new readings, in order of time, that change nothing; None: they must be replayed.

    Exact only for `value: last` (an average may pass the threshold though no new reading does) and for
    readings after the last evaluated (a late one may break the clock of an episode that is over).
    """
    memory = known.memory
    if memory is None or memory.evaluated_to != known.evaluated_to or rule.value.kind != "last":
        return None
    past = predicate(rule.levels[0].condition)
    if is_eventful(known, memory) or new[0][0] <= memory.evaluated_to or any(past(value) for _, value in new):
        return None
    newest = new[-1][0]
    return msgspec.structs.replace(memory, evaluated_to=newest, sample_at=newest)


def is_eventful(known: Known, memory: Memory) -> bool:
    """Tell whether an episode is open or a level's clock runs, so that any reading may change something."""
    return (bool(known.episodes) and known.episodes[-1].is_open) or memory.starts.count(None) < len(memory.starts)


def _within_era(new: Iterable[tuple[int, int]], era_from: int | None) -> list[tuple[int, int]]:
    if era_from is None:
        return sorted(new)
    return sorted((max(first, era_from), last) for first, last in new if last >= era_from)


class _Passage:
    """One passage over the samples from the first range on; it takes along each range that it comes to."""

    def __init__(self, rule: SeriesRule, era_from: int | None, before: Replay, ranges: deque[tuple[int, int]]) -> None:
        self._rule = rule
        self._era_from = era_from
        self._before = before
        self._fired = [episode.fired_at for episode in before.episodes]
        self._ranges = ranges
        self._start = ranges[0][0]
        self._newest = before.evaluated_to
        #: No sample up to here may be trusted to go on as it is stored.
        self._reach = self._start
        self._sampler = Sampler(rule.value)
        covering = self._stored_at(self._start - 1)
        self._machine = Machine(rule, covering and covering.as_of(self._start - 1))

    def through(self, first_page: int) -> Replaying:
        """Recover the clocks, then replay page by page until stored and true agree or the readings end."""
        yield from self._recover(first_page)
        cursor, limit = self._start, first_page
        self._take_along(cursor)
        while True:
            page = yield Want(cursor, None, limit)
            stop = self._take(page)
            if stop is not None or len(page) < limit:
                return self._result(stop)
            cursor, limit = page[-1][0] + 1, min(2 * limit, LARGEST_PAGE)

    def _recover(self, first_page: int) -> Generator[Want, Sequence[StoredReading], None]:
        """Set clocks and window as they were before the first range."""
        memory, window_us = self._before.memory, self._rule.value.window_us
        if memory is not None and self._before.evaluated_to == memory.evaluated_to < self._start:
            self._machine.remember(memory)
            yield from self._look_back(self._start - window_us, first_page)
            return
        gap_us, lookback_us = self._rule.max_gap_us, self._rule.lookback_us
        # Past a hole nothing matters, which bounds how far back the last sample is looked for.
        floor = None if gap_us is None else self._start - gap_us - lookback_us - window_us
        seen = yield from self._look_back(floor, first_page)
        for sample in seen:
            if sample.t >= seen[-1].t - lookback_us:
                self._machine.tick(sample)

    def _look_back(self, floor: int | None, limit: int) -> Generator[Want, Sequence[StoredReading], list[Sample]]:
        """Fill the window and give samples up to the start: right in [p - D, p], perhaps wrong before."""
        if self._era_from is not None:
            floor = self._era_from if floor is None else max(floor, self._era_from)
        readings: list[StoredReading] = []
        seen: list[Sample] = []
        until = self._start
        while floor is None or floor < until:
            page = yield Want(floor, until, limit, newest=True)
            readings = [*page, *readings]
            self._sampler = Sampler(self._rule.value)
            seen = [sample for t, value in readings if (sample := self._sampler.push(t, value)) is not None]
            if len(page) < limit or self._is_far_enough(page[0][0], seen):
                break
            until, limit = page[0][0], min(2 * limit, LARGEST_PAGE)
        return seen

    def _is_far_enough(self, oldest: int, seen: Sequence[Sample]) -> bool:
        # p is the last sample, not the last reading: `rate` and `delta` give none where readings are sparse.
        return bool(seen) and oldest <= seen[-1].t - self._rule.lookback_us - self._rule.value.window_us

    def _take(self, page: Sequence[StoredReading]) -> int | None:
        """Step through a page; give the time of the sample from which on the stored episodes stand."""
        for t, value in page:
            self._take_along(t)
            self._newest = t if self._newest is None else max(t, self._newest)
            sample = self._sampler.push(t, value)
            if sample is not None:
                self._machine.step(sample)
                if t > self._reach and self._agrees(t):
                    return t
        return None

    def _take_along(self, t: int) -> None:
        """Enter the ranges that begin by `t`; their readings reach as far as their windows and clocks."""
        while self._ranges and self._ranges[0][0] <= t:
            _, last = self._ranges.popleft()
            reach = last + self._rule.value.window_us + self._rule.lookback_us
            self._reach = max(self._reach, reach)

    def _agrees(self, t: int) -> bool:
        evaluated_to = self._before.evaluated_to
        if evaluated_to is None or t > evaluated_to:
            return False
        stored = self._stored_at(t)
        as_stored = stored and stored.as_of(t)
        return self._machine.level == (as_stored and as_stored.level)

    def _stored_at(self, t: int) -> Episode | None:
        """Give the stored episode that was open after the sample at `t`."""
        index = bisect_right(self._fired, t) - 1
        if index < 0:
            return None
        episode = self._before.episodes[index]
        return None if episode.resolved_at is not None and episode.resolved_at <= t else episode

    def _result(self, stop: int | None) -> Replay:
        machine, stored = self._machine, self._before.episodes
        kept = [each for each in stored if each.resolved_at is not None and each.resolved_at < self._start]
        if stop is None:
            newest, memory = self._newest, None if self._newest is None else machine.memory(self._newest)
            return Replay(self._start, None, (*kept, *machine.episodes), newest, memory)
        later = [each for each in stored if each.fired_at > stop]
        episodes = (*kept, *machine.closed, *self._joined(stop), *later)
        return Replay(self._start, stop, episodes, self._newest, self._before.memory)

    def _joined(self, stop: int) -> list[Episode]:
        """Give the episode that spans the stop: until then as replayed, from then on as stored."""
        stored, replayed = self._stored_at(stop), self._machine.open
        if stored is None or replayed is None:
            return []
        steps = (*replayed.steps, *(step for step in stored.steps if step.t > stop))
        return [Episode(replayed.started_at, replayed.fired_at, stored.resolved_at, steps)]
