"""Evaluation progress of one process for each pair of rule and series."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from app.alerting.episodes.machine import Episode, Memory, rank_of
from app.alerting.episodes.replay import Known, Replay
from app.alerting.episodes.revision import StoredEpisode
from app.alerting.episodes.shortcut import Extremes
from app.alerting.episodes.timed import Companion, Timing
from app.alerting.evaluation.dirty import LateRows, News
from app.alerting.evaluation.timed.companions import TimedPairs
from app.alerting.rules.matching import Match, RuleBook
from app.clock import MINUTE_US
from app.model import SeriesId
from app.summaries import Summary

#: The state of a quiet pair is stored before the stored one is older than this, in event time.
QUIET_WRITE_US = 10 * MINUTE_US


class Cache(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Stored values that save work. All of them can be computed again from the readings."""

    memory: Memory | None = None


_decode_cache = msgspec.json.Decoder(Cache).decode
_decode_episode = msgspec.json.Decoder(Episode).decode
_encode_cache = msgspec.json.Encoder().encode


class StoredState(msgspec.Struct, gc=False):
    """The row of alert_state for a pair, as of its last evaluation; `PairState.is_due` decides when it is written."""

    era: int
    era_from: int | None
    rule_hash: str
    evaluated_to: int | None = None
    memory: Memory | None = None
    #: The episode that was open when the era began.
    inherited: Episode | None = None
    #: The first held sample that is due after the horizon; None if there is none. For timed rules only.
    next_due: int | None = None
    #: The horizon of the last evaluation of a timed rule.
    horizon_us: int | None = None

    def columns(self) -> tuple[Any, ...]:
        """Return the values of the columns of alert_state, from `era` on."""
        inherited = None if self.inherited is None else _encode_cache(self.inherited).decode()
        terms = self.era, self.era_from, self.rule_hash
        return *terms, self.evaluated_to, self.cache(), inherited, self.next_due, self.horizon_us

    def cache(self) -> str:
        """Return the cache column as JSON."""
        return _encode_cache(Cache(self.memory)).decode()


class PairState(msgspec.Struct, gc=False):
    """Evaluation state of one rule and series in this process."""

    match: Match
    stored: StoredState
    #: `evaluated_to` in the database; None if nothing is stored.
    written_us: int | None = None
    must_write: bool = True
    #: This process evaluated the pair last. Otherwise the stored `evaluated_to` may be older than the last evaluation.
    is_current: bool = False
    #: All readings since the start of the era are evaluated with the next new ones.
    is_beginning: bool = False
    #: First evaluation of a rule that is newer than the series: no message is sent about episodes that are over.
    is_backfill: bool = False
    #: Number of levels that the open episode has reached; None if none is open. Known if `is_current`.
    rank: int | None = None
    #: When the last episode of the last replay was resolved; 0 if none was.
    resolved_us: int = 0
    #: For values with a window; None if unknown.
    extremes: Extremes | None = None
    #: The series of the second metrics of a rule with `when`.
    companions: tuple[Companion, ...] = ()

    @classmethod
    def of_row(cls, row: asyncpg.Record, match: Match) -> "PairState":
        """Return the state in a row of alert_state."""
        cache = Cache() if row["cache"] is None else _decode_cache(row["cache"])
        # Equal hashes share one string: there may be a million pairs.
        rule_hash = match.rule_hash if row["rule_hash"] == match.rule_hash else row["rule_hash"]
        stored = StoredState(row["era"], row["era_from_us"], rule_hash, row["evaluated_us"], cache.memory)
        if row["inherited"] is not None:
            stored.inherited = _decode_episode(row["inherited"])
        stored.next_due, stored.horizon_us = row["next_due_us"], row["horizon_us"]
        return cls(match, stored, row["evaluated_us"], must_write=False)

    @classmethod
    def begin(cls, match: Match, era_from: int | None = None, companions: tuple[Companion, ...] = ()) -> "PairState":
        """Return the state of a pair that was never evaluated."""
        return cls(match, StoredState(1, era_from, hash_with(match.rule_hash, companions)), companions=companions)

    @property
    def is_timed(self) -> bool:
        """Return whether held values or readings of companions may change the episodes."""
        return self.match.is_timed

    @property
    def rule_hash(self) -> str:
        """A hash of the terms of the rule for the series, and of its companions."""
        return hash_with(self.match.rule_hash, self.companions)

    def timing(self, horizon_us: int) -> Timing | None:
        """Return what a replay needs besides the readings of the series. The horizon never goes back."""
        if not self.is_timed:
            return None
        return Timing(max(horizon_us, self.stored.horizon_us or horizon_us), self.companions)

    def begin_backfill(self, era_from: int) -> None:
        """Begin with the stored readings from a time on, because the rule is newer than the series."""
        self.stored.era_from = era_from
        self.is_beginning = self.is_backfill = True

    @property
    def is_quiet(self) -> bool:
        """Return whether no clock runs, so that an older stored state gives the same episodes."""
        return self.stored.memory is not None and not self.stored.memory.is_running

    def begin_era(self, era_from: int | None, inherited: Episode | None = None) -> None:
        """Restart the clocks under new terms of the rule, from a time on, in the episode that is open then."""
        stored = self.stored
        self.is_beginning = True
        self.stored = StoredState(stored.era + 1, era_from, self.rule_hash, stored.evaluated_to, inherited=inherited)
        self.stored.horizon_us = stored.horizon_us
        self.extremes, self.must_write, self.is_current = None, True, False

    def add(self, new: Summary) -> None:
        """Take note of new readings, which a skip or a replay evaluates next."""
        if self.extremes is not None:
            self.extremes.add(new, self.match.shortcut.window_us)

    def skip(self, new: Summary) -> bool:
        """Evaluate new readings by the shortcut, if it is exact, and return whether it is."""
        stored, memory = self.stored, self.stored.memory
        if not self.is_current or memory is None or memory.evaluated_to != stored.evaluated_to:
            return False
        if new.first_us <= memory.evaluated_to or (stored.era_from is not None and new.first_us < stored.era_from):
            return False
        match = self.match
        if match.is_timed and not self._is_calm(memory):
            return False
        after = match.shortcut.skip(memory, self.rank, new, self.extremes)
        if after is None or (match.is_timed and after.is_running):
            return False
        stored.memory, stored.evaluated_to = after, after.evaluated_to
        if after.starts is not memory.starts:  # they are the same object while all is calm
            self.must_write |= after.is_running or memory.is_running
        return True

    def _is_calm(self, memory: Memory) -> bool:
        """Return whether neither held values nor companions can change what was evaluated last."""
        if self.stored.next_due is not None or self.rank is not None or memory.is_running:
            return False
        # Otherwise a held sample has resolved it, which may be later than a new reading.
        return self.resolved_us <= memory.evaluated_to

    def ranges(self, news: News, timed: Iterable[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """Return the ranges of readings that a replay of the news evaluates.

        `timed` are those in which companions have changed or held samples have come due.
        """
        ranges = [*news.ranges, *timed]
        inherited = self.stored.inherited
        if inherited is not None and any(first <= inherited.steps[-1].t for first, _ in ranges):
            ranges.append((self.stored.era_from or 0, self.stored.era_from or 0))
        if self.is_beginning and self.stored.era_from is not None:
            # The new readings may be older than the era. The replay continues to the newest reading in any case.
            ranges.append((self.stored.era_from, max([self.stored.era_from, *(last for _, last in ranges)])))
        return ranges

    def timed_ranges(self, news_of: Mapping[SeriesId, Iterable[Summary]], horizon_us: int) -> list[tuple[int, int]]:
        """Return the ranges in which companions with news have changed, and in which held samples have come due."""
        ranges = [
            (part.first_us, part.last_us + companion.max_age_us + 1)
            for companion in self.companions
            for part in news_of.get(companion.series_id, ())
        ]
        next_due = self.stored.next_due
        if next_due is not None and next_due <= horizon_us:
            ranges.append((next_due, horizon_us))
        return ranges

    def columns(self) -> tuple[Any, ...]:
        """Return the values of the columns of alert_state, from `era` on."""
        if not self.match.series_rule.when:
            return *self.stored.columns(), None
        seconds = [
            (
                second.metric,
                second.max_age_us,
                [one.series_id for one in self.companions if one.metric == second.metric],
            )
            for second in self.match.series_rule.when
        ]
        return *self.stored.columns(), _encode_cache(seconds).decode()

    def known(self, episodes: Sequence[StoredEpisode]) -> Known:
        """Return the state from which a replay starts."""
        stored = self.stored
        return Known(
            [each.episode for each in episodes],
            stored.evaluated_to,
            stored.era_from,
            stored.memory,
            stored.next_due,
            stored.inherited,
        )

    def take(self, result: Replay, *, changed: bool, horizon_us: int | None = None) -> None:
        """Take over the result of a replay, which may have `changed` the episodes."""
        was_quiet = self.is_current and self.is_quiet and not result.ran
        if self.is_timed:
            was_quiet = was_quiet and self.stored.next_due is None and result.next_due is None
            self.stored.next_due, self.stored.horizon_us = result.next_due, horizon_us
        self.stored.evaluated_to, self.stored.memory = result.evaluated_to, result.memory
        self.must_write |= changed or not was_quiet or not self.is_quiet
        # A replay that stops early tells nothing about readings after a stored `evaluated_to` that may be old.
        self.is_current |= result.from_us is not None and result.to_us is None
        self.is_beginning = self.is_backfill = False
        last = result.episodes[-1] if result.episodes else None
        self.rank = rank_of(self.match.series_rule, last.level) if last is not None and last.is_open else None
        self.resolved_us = 0 if last is None or last.resolved_at is None else last.resolved_at
        has_window = self.match.series_rule.value.window_us > 0
        if has_window and self.is_current and self.extremes is None and result.evaluated_to is not None:
            self.extremes = Extremes.after(result.evaluated_to)

    @property
    def unknown_window(self) -> tuple[int, int] | None:
        """The range of time whose extremes the next readings need, if they are unknown; both ends are included."""
        evaluated_to, extremes = self.stored.evaluated_to, self.extremes
        if evaluated_to is None or extremes is None:
            return None
        from_us = evaluated_to + 1 - self.match.series_rule.value.window_us
        return None if extremes.covers(from_us) else (from_us, evaluated_to)

    def is_due(self, series_id: SeriesId) -> bool:
        """Return whether the state must be stored now. Quiet pairs are due at different times, to spread the writes."""
        age_us = (self.stored.evaluated_to or 0) - (self.written_us or 0)
        return self.must_write or age_us > QUIET_WRITE_US // 2 + series_id % 32 * QUIET_WRITE_US // 64


def hash_with(rule_hash: str, companions: Sequence[Companion]) -> str:
    """Return the hash of a rule for a series with these companions: a change of companions is a change of its terms."""
    return "+".join([rule_hash, *(str(each.series_id) for each in companions)])


class EvaluationProgress:
    """Evaluation states of all series while this process is the leader.

    The states of quiet pairs are stored only from time to time. An older stored state of a quiet pair gives the same
    episodes, because no clock has run since.
    """

    def __init__(self) -> None:
        #: The states of each series, in the order of the rules.
        self.series: dict[SeriesId, tuple[PairState, ...]] = {}
        #: Series whose rules or sensor's fields may have changed since their states were loaded.
        self.doubted: set[SeriesId] = set()
        self.late = LateRows()
        self.timed = TimedPairs()
        #: Series that are older than some rule, in the order in which the rule evaluates their stored readings.
        self.to_begin: dict[SeriesId, None] = {}
        #: Whether `to_begin` lacks the series that are older than the rules in force.
        self.must_find_older = True
        #: Whether the rules have changed since they were used.
        self.rules_changed = False
        self._book: RuleBook | None = None

    def use_rules(self, book: RuleBook) -> None:
        """Match all series again if the rules have changed, and read stored states again: some were deleted."""
        if book is not self._book:
            self.doubted.update(self.series)
            self.must_find_older = True
            self.rules_changed = self._book is not None
            self._book = book

    def end_beginning(self, looked_at: Iterable[SeriesId], left: Collection[SeriesId]) -> None:
        """Take series off `to_begin`, but not those that are `left`."""
        for series_id in looked_at:
            if series_id not in left:
                del self.to_begin[series_id]

    def forget(self) -> None:
        """Use only the stored states from now on: a transaction failed, or another process was the leader."""
        self.series.clear()
        self.doubted.clear()
        self.late = LateRows()
        self.timed.forget()
        self.to_begin.clear()
        self.must_find_older = True
