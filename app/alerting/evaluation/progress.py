"""Evaluation progress of one process for each pair of rule and series, and the shortcut for quiet readings."""

from collections.abc import Sequence
from math import inf, nextafter

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

#: The state of a quiet pair is stored before the stored one is older than this, in event time.
QUIET_WRITE_US = 10 * MINUTE_US


class Cache(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Stored values that save work. All of them can be computed again from the readings."""

    memory: Memory | None = None
    #: No reading since this time met the condition of the lowest level.
    quiet_since: int | None = None


_decode_cache = msgspec.json.Decoder(Cache).decode
_encode_cache = msgspec.json.Encoder().encode


class PairState(msgspec.Struct, gc=False):
    """Evaluation state of one rule and series."""

    era: int
    era_from: int | None
    rule_hash: str
    stored: list[StoredEpisode] = []
    known: Known = Known()
    quiet_since: int | None = None
    #: `evaluated_to` of the stored state; None if there is none.
    written_us: int | None = None
    #: This process evaluated the pair last, so `known` is newer than the stored state or equal to it.
    is_evaluated_here: bool = False
    must_write: bool = True
    #: First evaluation of a rule that is newer than the series: no message is sent about episodes that are over.
    is_backfill: bool = False

    def is_due(self, series_id: SeriesId) -> bool:
        """Return whether the state must be stored now. Quiet pairs are due at different times, to spread the writes."""
        age_us = (self.known.evaluated_to or 0) - (self.written_us or 0)
        return self.must_write or age_us > QUIET_WRITE_US // 2 + series_id % 32 * QUIET_WRITE_US // 64

    def cache(self) -> str:
        """Return the cache column as JSON."""
        return _encode_cache(Cache(self.known.memory, self.quiet_since)).decode()


class EvaluationProgress:
    """Evaluation states of all pairs while this process is the leader.

    The states of quiet pairs are stored only from time to time. An older stored state of a quiet pair gives the same
    episodes, because no clock has run since.
    """

    def __init__(self) -> None:
        self.states: dict[Pair, PairState] = {}
        #: The names of the rules that selected each series at its last evaluation.
        self.rules_of: dict[SeriesId, tuple[str, ...]] = {}
        self._book: RuleBook | None = None

    def use_rules(self, book: RuleBook) -> None:
        """Read stored states again if the rules have changed, because the states of removed rules were deleted."""
        if book is not self._book:
            self.rules_of.clear()
            self._book = book

    def forget(self) -> None:
        """Use only the stored states from now on: a transaction failed, or another process was the leader."""
        self.states.clear()
        self.rules_of.clear()


def stored_state(row: asyncpg.Record) -> PairState:
    """Return the state in a row of alert_state, without its episodes."""
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
    """Return the memory after new readings that change no episode, or None: replay them. Update `state.quiet_since`.

    A reading is quiet if it does not meet the condition of the lowest level. For `value: last` see `skip`. For
    averages, minima and maxima the shortcut is exact if all readings of the window are quiet and the quiet values form
    one range: then the sample lies in that range, too. An average may lie beyond it by rounding, so a reading within
    that distance of the threshold is not quiet for averages.
    """
    is_met = predicate(rule.levels[0].condition)
    values = [value for _, value in new]
    if rule.value.kind == "avg":
        values += [_two_floats_away(min(values), -inf), _two_floats_away(max(values), inf)]
    if any(map(is_met, values)):
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


def _two_floats_away(value: float, towards: float) -> float:
    """Return a bound of the averages of readings like `value`: the sum and the division round once each."""
    return nextafter(nextafter(value, towards), towards)
