"""The shortcut: the effect of new readings on the clocks of a rule, computed from their summary, if no episode changes.

It is exact. Every sample lies in an interval that follows from the summary and from the extremes of earlier readings.
If a condition has the same result on this whole interval, it has that result for every sample, so each clock
continues, starts at the first sample or stops there. If this is not certain, or a clock could reach its duration, there
is no shortcut.
"""

from math import inf, nextafter
from typing import assert_never

import msgspec

from app.alerting.conditions import constancy
from app.alerting.episodes.machine import Memory, SeriesRule
from app.clock import HOUR_US
from app.summaries import Summary

Interval = tuple[float, float]


class Extremes(msgspec.Struct, gc=False):
    """Bounds of the readings after some time, for the windows of one rule and series.

    There are two spans of time, of which the second began later. When it is as long as the window, it takes the place
    of the first, so bounds of readings that have left the window are given up after at most two windows.
    """

    #: The bounds hold for the readings after this time.
    after_us: int
    #: The newest reading so far.
    newest_us: int
    lowest: float = inf
    highest: float = -inf
    next_after_us: int = 0
    next_lowest: float = inf
    next_highest: float = -inf

    @classmethod
    def after(cls, us: int) -> "Extremes":
        """Return the extremes of no readings yet after the newest one, at `us`."""
        return cls(us, us, next_after_us=us)

    def add(self, new: Summary, window_us: int) -> None:
        """Widen the bounds by new readings; they may be earlier than those added before."""
        if self.newest_us < new.first_us and self.next_after_us < new.first_us - window_us:
            self.after_us, self.lowest, self.highest = self.next_after_us, self.next_lowest, self.next_highest
            self.next_after_us, self.next_lowest, self.next_highest = self.newest_us, inf, -inf
        self.newest_us = max(self.newest_us, new.last_us)
        self.lowest, self.highest = min(self.lowest, new.lowest), max(self.highest, new.highest)
        self.next_lowest = min(self.next_lowest, new.lowest)
        self.next_highest = max(self.next_highest, new.highest)

    def reach_back(self, from_us: int, lowest: float, highest: float) -> None:
        """Widen the bounds to those of all readings from a time on, up to where the bounds held before."""
        self.after_us = from_us - 1
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)

    def covers(self, from_us: int) -> bool:
        """Return whether the bounds hold for all readings from a time on."""
        return self.after_us < from_us


class Shortcut:
    """The shortcut of one rule."""

    __slots__ = ("_clear", "_clear_for_us", "_levels", "_max_gap_us", "_value", "stopped", "window_us")

    def __init__(self, rule: SeriesRule) -> None:
        self.window_us = rule.value.window_us
        self._value = rule.value
        self._levels = tuple((constancy(level.condition), level.for_us) for level in rule.levels)
        self._clear = None if rule.clear is None else constancy(rule.clear)
        self._clear_for_us = rule.clear_for_us
        self._max_gap_us = rule.max_gap_us
        #: The starts of the clocks while all are stopped. Most pairs share it.
        self.stopped: tuple[int | None, ...] = (None,) * len(rule.levels)

    def skip(self, memory: Memory, rank: int | None, new: Summary, extremes: Extremes | None) -> Memory | None:
        """Return the clocks after new readings that change no episode, or None: replay them.

        All new readings must be later than `memory.evaluated_to`. `rank` is the number of levels that the open episode
        has reached, None if none is open. `extremes` include the new readings; `value: last` needs none.
        """
        interval = self._interval(new, extremes)
        if interval is None:
            return None
        if rank is None and memory.starts == self.stopped and self._levels[0][0](*interval) is False:
            return Memory(new.last_us, new.last_us, self.stopped, None)  # the usual case: all is calm
        restarts = (
            self._max_gap_us is not None
            and memory.sample_at is not None
            and new.first_us - memory.sample_at > self._max_gap_us
        )
        starts = self._starts(memory, rank or 0, new, interval, restarts=restarts)
        if starts is None:
            return None
        hold = None
        if rank is not None:
            is_clear = starts[0] is None if self._clear is None else self._clear(*interval)
            if is_clear is None:
                return None
            if is_clear:
                hold = new.first_us if memory.hold is None or restarts else memory.hold
                if new.last_us - hold >= self._clear_for_us:
                    return None
        after = Memory(new.last_us, new.last_us, starts, hold)
        return after if self._is_certain(memory, after, new) else None

    def _starts(
        self, memory: Memory, rank: int, new: Summary, interval: Interval, *, restarts: bool
    ) -> tuple[int | None, ...] | None:
        """Return the starts of the levels' clocks, or None if one is uncertain or a level is reached."""
        starts: list[int | None] = []
        for index, (is_met_on, for_us) in enumerate(self._levels):
            is_met = is_met_on(*interval)
            if is_met is None:
                return None
            if not is_met:
                starts.append(None)
                continue
            start = memory.starts[index]
            if start is None or restarts:
                start = new.first_us
            if index >= rank and new.last_us - start >= for_us:
                return None
            starts.append(start)
        return tuple(starts)

    def _is_certain(self, memory: Memory, after: Memory, new: Summary) -> bool:
        """Return whether no hole between the new readings and no reading without a sample can matter to a clock."""
        if self._value.needs_half_window:
            # The readings may give no sample at all, and then every clock is as before.
            return not memory.is_running and not after.is_running
        return self._max_gap_us is None or new.widest_gap_us <= self._max_gap_us or not after.is_running

    def _interval(self, new: Summary, extremes: Extremes | None) -> Interval | None:
        """Return bounds of every sample of the new readings, or None if the readings before are not known."""
        kind = self._value.kind
        if kind == "last":
            return new.lowest, new.highest
        if kind == "increase" or self._value.counter:
            return None  # how often a counter was reset does not follow from its extremes
        if extremes is None or not extremes.covers(new.first_us - self.window_us):
            return None
        match kind:
            case "min":
                return extremes.lowest, new.highest
            case "max":
                return new.lowest, extremes.highest
            case "avg":
                # The sum and the division round once each: the average of three times -0.2 is -0.20000000000000004.
                return _two_floats_away(extremes.lowest, -inf), _two_floats_away(extremes.highest, inf)
            case "delta":
                return new.lowest - extremes.highest, new.highest - extremes.lowest
            case "rate":
                return self._rates(new.lowest - extremes.highest, new.highest - extremes.lowest)
            case "range":
                return 0.0, extremes.highest - extremes.lowest
            case unknown:
                assert_never(unknown)

    def _rates(self, least: float, most: float) -> Interval:
        """Return bounds of the rates of these differences over between half a window and a window."""
        spans = (self.window_us + 1) // 2, self.window_us
        return min(least * HOUR_US / span for span in spans), max(most * HOUR_US / span for span in spans)


def _two_floats_away(value: float, towards: float) -> float:
    return nextafter(nextafter(value, towards), towards)
