"""How far one process has come with each rule and series, and the short way past readings that change nothing."""

from collections.abc import Sequence

import asyncpg
import msgspec

from app.alerting.conditions import predicate, rejects_one_stretch
from app.alerting.episodes.machine import Memory, SeriesRule
from app.alerting.episodes.replay import Known, is_eventful, skip
from app.alerting.episodes.revision import StoredEpisode
from app.alerting.episodes.samples import StoredReading
from app.alerting.evaluation.stored_episodes import Pair
from app.alerting.rules.matching import RuleBook
from app.clock import MINUTE_US
from app.model import SeriesId

#: A pair in which nothing happens is written down before its stored state is older than this, in event time.
QUIET_WRITE_US = 10 * MINUTE_US


class Cache(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is kept beside the episodes to save work; all of it can be found again from the readings."""

    memory: Memory | None = None
    #: Every reading since then was on the good side of the lowest level.
    quiet_since: int | None = None


_decode_cache = msgspec.json.Decoder(Cache).decode
_encode_cache = msgspec.json.Encoder().encode


class PairState(msgspec.Struct, gc=False):
    """How far one rule has come with one series."""

    era: int
    era_from: int | None
    rule_hash: str
    stored: list[StoredEpisode] = []
    known: Known = Known()
    quiet_since: int | None = None
    #: Evaluated to, as it is written down; None: nothing is.
    written_us: int | None = None
    #: This process evaluated the pair last: `known` is the newest there is.
    is_ours: bool = False
    must_write: bool = True
    #: The rule has just met a series older than itself: what is over by now is not announced.
    is_beginning: bool = False

    def is_due(self, series_id: SeriesId) -> bool:
        """Tell whether it is to be written down; quiet pairs take turns, so that they are not all written at once."""
        age_us = (self.known.evaluated_to or 0) - (self.written_us or 0)
        return self.must_write or age_us > QUIET_WRITE_US // 2 + series_id % 32 * QUIET_WRITE_US // 64

    def cache(self) -> str:
        """Write as JSON what is kept to save work."""
        return _encode_cache(Cache(self.known.memory, self.quiet_since)).decode()


class EvaluationProgress:
    """How far this process has come with each pair, while it is the leader.

    Pairs in which nothing happens are written down now and then only: their stored state is old, and as good as new,
    for no clock has run since.
    """

    def __init__(self) -> None:
        self.states: dict[Pair, PairState] = {}
        #: The rules that each series fell under when it was evaluated last.
        self.rules_of: dict[SeriesId, tuple[str, ...]] = {}
        self._book: RuleBook | None = None

    def go_by(self, book: RuleBook) -> None:
        """Look up which states there are when the rules have changed: those of rules that are gone were deleted."""
        if book is not self._book:
            self.rules_of.clear()
            self._book = book

    def forget(self) -> None:
        """Go by what is stored: a transaction failed, or another process was the leader."""
        self.states.clear()
        self.rules_of.clear()


def stored_state(row: asyncpg.Record) -> PairState:
    """Take over what is written down of a pair."""
    cache = Cache() if row["cache"] is None else _decode_cache(row["cache"])
    known = Known((), row["evaluated_us"], row["era_from_us"], cache.memory)
    return PairState(
        row["era"],
        row["era_from_us"],
        row["rule_hash"],
        known=known,
        quiet_since=cache.quiet_since,
        written_us=row["evaluated_us"],
        must_write=False,
    )


def skip_quiet(rule: SeriesRule, state: PairState, new: Sequence[StoredReading]) -> Memory | None:
    """Give the memory after new readings that change nothing, and note since when readings have been quiet.

    Beyond `value: last` (see `skip`) this is exact for averages, minima and maxima whose whole window was quiet, if
    the quiet side is one stretch: all of them lie between readings of the window.
    """
    past = predicate(rule.levels[0].condition)
    if any(past(value) for _, value in new):
        state.quiet_since = None
        return None
    since, state.quiet_since = state.quiet_since, new[0][0] if state.quiet_since is None else state.quiet_since
    if rule.value.kind == "last":
        return skip(rule, state.known, new)
    memory = state.known.memory
    if (
        memory is None
        or since is None
        or rule.value.kind not in ("avg", "min", "max")
        or not rejects_one_stretch(rule.levels[0].condition)
    ):
        return None
    if is_eventful(state.known, memory) or new[0][0] <= (state.known.evaluated_to or 0):
        return None
    if since > new[0][0] - rule.value.window_us:
        return None
    newest = new[-1][0]
    return msgspec.structs.replace(memory, evaluated_to=newest, sample_at=newest)
