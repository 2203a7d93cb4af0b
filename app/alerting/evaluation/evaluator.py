"""Evaluation of the readings listed in `dirty`: updates the episodes and deletes the rows in the same transaction.

The cost grows with the new readings, not with the stored ones. Fresh readings are fetched together. Most pairs of rule
and series need only a comparison for each new reading. The others are replayed; each round of reads that all these
replays need is one query.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter

import msgspec

from app.alerting.episodes.replay import Known, Replay, Replaying, Want, replaying
from app.alerting.episodes.samples import StoredReading
from app.alerting.evaluation.progress import EvaluationProgress, PairState, skip_quiet, stored_state
from app.alerting.evaluation.sql import SQL
from app.alerting.evaluation.stored_episodes import Change, Changes, EvaluatedSeries, Pair, load_stored
from app.alerting.rules.matching import Match, RuleBook
from app.clock import DAY_US, HOUR_US, MINUTE_US, from_us, now_us
from app.db.aggregates import RAW_RETENTION
from app.db.locks import lock_evaluation
from app.db.pool import Connection
from app.model import SeriesId

#: Largest number of dirty rows in one evaluation. Further rows wait for the next one.
ROWS_LIMIT = 500
#: Largest number of (series, range) entries in one evaluation, unless the first dirty row alone has more.
RANGES_LIMIT = 50_000
#: The rule hash in the stored state of a series that the rule no longer selects.
_UNSELECTED_HASH = ""

Range = tuple[int, int]


class DirtyRanges(msgspec.Struct):
    """The time ranges of new readings in some dirty rows, by series. `ids` are the ids of the rows."""

    ids: list[int] = []
    fresh: dict[SeriesId, list[Range]] = {}
    late: dict[SeriesId, list[Range]] = {}

    @property
    def series_ids(self) -> list[SeriesId]:
        """All series with new readings."""
        return sorted(self.fresh.keys() | self.late.keys())


class Evaluation(msgspec.Struct, frozen=True):
    """The result of one evaluation."""

    dirty_rows: int
    pairs: int
    replayed: int
    changes: list[Change]
    #: Series with new readings.
    series_ids: Sequence[SeriesId] = ()


async def evaluate(
    connection: Connection, book: RuleBook, rules_since: Mapping[str, int], progress: EvaluationProgress
) -> Evaluation:
    """Evaluate the oldest dirty rows in the caller's transaction. If it is rolled back, call `progress.forget`."""
    await lock_evaluation(connection)
    progress.use_rules(book)
    dirty = await _load_dirty(connection)
    if not dirty.ids:
        return Evaluation(0, 0, 0, [])
    series = await load_series(connection, dirty.series_ids)
    pass_ = _Pass(connection, dirty, series, book, rules_since, progress)
    changes = await pass_.run()
    await connection.execute(SQL["delete_dirty"], dirty.ids)
    return Evaluation(len(dirty.ids), len(pass_.states), pass_.replayed, changes, dirty.series_ids)


async def load_series(connection: Connection, ids: Sequence[SeriesId]) -> dict[SeriesId, EvaluatedSeries]:
    """Load the fields by which rules select series. They are not cached, because tags may change at any time."""
    return {row["id"]: EvaluatedSeries(**row) for row in await connection.fetch(SQL["list_series"], ids)}


async def _load_dirty(connection: Connection) -> DirtyRanges:
    dirty = DirtyRanges([], defaultdict(list), defaultdict(list))
    ranges = 0
    for row in await connection.fetch(SQL["list_dirty"], ROWS_LIMIT):
        if dirty.ids and ranges + len(row["series_ids"]) > RANGES_LIMIT:
            break
        dirty.ids.append(row["id"])
        ranges += len(row["series_ids"])
        by_series = dirty.late if row["late"] else dirty.fresh
        for series_id, first, last in zip(row["series_ids"], row["from_us"], row["to_us"], strict=True):
            by_series[series_id].append((first, last))
    return dirty


class _Pass:
    """One evaluation of many (rule, series) pairs."""

    def __init__(
        self,
        connection: Connection,
        dirty: DirtyRanges,
        series: Mapping[SeriesId, EvaluatedSeries],
        book: RuleBook,
        rules_since: Mapping[str, int],
        progress: EvaluationProgress,
    ) -> None:
        self._connection = connection
        self._dirty = dirty
        self._series = series
        self._rules_since = rules_since
        self._progress = progress
        matches_of = {
            each.id: book.matches(each.sensor, each.metric, each.tags, each.gateway) if each.out_of_use is None else ()
            for each in series.values()
        }
        self._rules_of = {
            series_id: tuple(match.rule.name for match in matches) for series_id, matches in matches_of.items()
        }
        self._matches: dict[Pair, Match] = {
            (match.rule.name, series_id): match for series_id, matches in matches_of.items() for match in matches
        }
        self.states: dict[Pair, PairState] = {}
        self.replayed = 0

    async def run(self) -> list[Change]:
        """Evaluate all pairs, store the changes and return them."""
        changes = Changes(self._connection, self._series, self._matches)
        unselected = await self._load_states()
        await self._load_episodes()
        for pair, state in self.states.items():
            if state.rule_hash != self._matches[pair].rule_hash:
                await self._begin_era(pair, state)
        await self._add_states([pair for pair in self._matches if pair not in self.states])
        fresh = await self._fetch_fresh()
        results = await self._replay(self._skip_quiet(fresh), fresh)
        for pair, result in sorted(results.items(), key=lambda item: (item[0][1], item[0][0])):
            state = self.states[pair]
            if list(result.episodes) != list(state.known.episodes):
                changes.revise(pair, state.era, state.stored, result.episodes, is_backfill=state.is_backfill)
            state.known = Known((), result.evaluated_to, state.era_from, result.memory)
        await changes.write()
        if unselected:
            await changes.end_unselected(unselected)
        await self._write_states()
        return changes.made

    async def _load_states(self) -> list[Pair]:
        """Set `states` from this process's progress or else from the database; return pairs that match no longer.

        The stored states are read only for series whose rules differ from those of their last evaluation.
        """
        known, rules_of = self._progress.states, self._progress.rules_of
        changed = [series_id for series_id, rules in self._rules_of.items() if rules_of.get(series_id) != rules]
        unselected: list[Pair] = []
        rows = await self._connection.fetch(SQL["list_states"], changed) if changed else []
        stored = {(row["rule"], row["series_id"]): row for row in rows}
        for series_id in changed:
            for rule in self._rules_of[series_id]:
                if (rule, series_id) not in stored:
                    known.pop((rule, series_id), None)  # the rule was removed and added again in between
        for pair, row in stored.items():
            if pair not in self._matches:
                known.pop(pair, None)
                if row["rule_hash"] != _UNSELECTED_HASH:
                    unselected.append(pair)
            elif pair not in known:
                known[pair] = stored_state(row)
        rules_of.update(self._rules_of)
        self.states = {pair: known[pair] for pair in self._matches if pair in known}
        return unselected

    async def _load_episodes(self) -> None:
        """Replace the episodes in the states by the stored ones that this evaluation may change."""
        stored = await load_stored(self._connection, self._dirty.series_ids, self._oldest_revised())
        for pair, state in self.states.items():
            if state.stored or pair in stored:
                state.stored = [each for era, each in stored.get(pair, ()) if era == state.era]
                episodes = [each.episode for each in state.stored]
                state.known = msgspec.structs.replace(state.known, episodes=episodes)

    def _oldest_revised(self) -> int | None:
        """Return the earliest new time that is not after its series' last evaluated reading, or None.

        Episodes that ended at or after that time may change. A fresh reading may also be out of order by some seconds.
        """
        evaluated_to: dict[SeriesId, int] = {}
        for (_, series_id), state in self.states.items():
            evaluated_to[series_id] = max(state.known.evaluated_to or 0, evaluated_to.get(series_id, 0))
        ranges = (
            (series_id, first)
            for by_series in (self._dirty.fresh, self._dirty.late)
            for series_id, its_ranges in by_series.items()
            for first, _ in its_ranges
        )
        return min((first for series_id, first in ranges if first <= evaluated_to.get(series_id, 0)), default=None)

    async def _begin_era(self, pair: Pair, state: PairState) -> None:
        """Start a new era after the last evaluated reading. The clocks restart, and an open episode stays open."""
        state.era += 1
        evaluated_to = state.known.evaluated_to
        state.era_from = None if evaluated_to is None else evaluated_to + 1
        if state.rule_hash == _UNSELECTED_HASH:
            # Readings from the time when the rule did not select the series do not belong to the new era.
            first = min((first for first, _ in self._ranges(pair, state)), default=now_us())
            # The newest reading belongs to it if it is evaluated again, as when a sensor is taken into use again.
            state.era_from = first if first == evaluated_to else max(first, state.era_from or first)
        state.rule_hash = self._matches[pair].rule_hash
        state.stored = [each for each in state.stored if each.episode.is_open]
        state.known = Known([each.episode for each in state.stored], evaluated_to, state.era_from)
        state.quiet_since, state.must_write = None, True
        await self._connection.execute(SQL["move_open_episode"], *pair, state.era)

    async def _add_states(self, new: Sequence[Pair]) -> None:
        """Add states of pairs that were never evaluated.

        If the series is older than the rule, the era begins `late_data.accept` before its newest reading, and all
        readings since then are evaluated now.
        """
        older = [pair for pair in new if self._series[pair[1]].created_us < self._rules_since.get(pair[0], 0)]
        newest: dict[SeriesId, int] = {}
        if older:
            rows = await self._connection.fetch(SQL["list_newest_times"], sorted({pair[1] for pair in older}))
            newest = {row["series_id"]: row["us"] for row in rows}
        for pair in new:
            self._progress.states[pair] = self.states[pair] = PairState(1, None, self._matches[pair].rule_hash)
        for pair in older:
            last = newest.get(pair[1], now_us())
            state = self.states[pair]
            state.era_from = last - self._matches[pair].terms.late_data.accept_us
            state.known = Known(era_from=state.era_from)
            state.is_backfill = True

    async def _fetch_fresh(self) -> dict[SeriesId, list[StoredReading]]:
        """Fetch the readings in the fresh ranges of all series with rules, and those between two ranges of a series.

        Series whose ranges begin in the same minute share a query, so that one that is behind does not widen the
        range for all.
        """
        spans: dict[SeriesId, Range] = {}
        ids_by_minute: defaultdict[int, list[SeriesId]] = defaultdict(list)
        for series_id, ranges in self._dirty.fresh.items():
            if self._rules_of.get(series_id):
                first, last = spans[series_id] = _span(ranges)
                ids_by_minute[first // MINUTE_US].append(series_id)
        fresh: dict[SeriesId, list[StoredReading]] = {}
        for ids in ids_by_minute.values():
            bounds = _span([spans[series_id] for series_id in ids])
            for series_id, us, value in await self._connection.fetch(
                SQL["list_new_readings"], ids, *map(from_us, bounds)
            ):
                first, last = spans[series_id]
                if first <= us <= last:
                    fresh.setdefault(series_id, []).append((us, value))
        return fresh

    def _skip_quiet(self, fresh: Mapping[SeriesId, list[StoredReading]]) -> dict[Pair, Replaying]:
        """Update the states of pairs whose episodes cannot have changed; return the replays of the others."""
        replays: dict[Pair, Replaying] = {}
        for pair, state in self.states.items():
            rule = self._matches[pair].series_rule
            new = fresh.get(pair[1]) if pair[1] not in self._dirty.late and not state.is_backfill else None
            memory = skip_quiet(rule, state, new) if new else None
            if memory is not None:
                state.known = Known(state.known.episodes, memory.evaluated_to, state.era_from, memory)
                continue
            replays[pair] = replaying(rule, state.known, self._ranges(pair, state))
            state.must_write = True
            if not new:
                state.quiet_since = None
        self.replayed = len(replays)
        return replays

    def _ranges(self, pair: Pair, state: PairState) -> list[Range]:
        """Return the new ranges of a pair, cut where retention may delete readings that their replay needs."""
        ranges = [*self._dirty.fresh.get(pair[1], ()), *self._dirty.late.get(pair[1], ())]
        if state.is_backfill and state.era_from is not None:
            ranges.append((state.era_from, max(last for _, last in ranges)))
        if pair[1] not in self._dirty.late:
            return ranges
        rule = self._matches[pair].series_rule
        edge = now_us() - RAW_RETENTION.days * DAY_US + rule.lookback_us + rule.value.window_us
        return [(max(first, edge), last) for first, last in ranges if last >= edge]

    async def _replay(
        self, replays: Mapping[Pair, Replaying], fresh: Mapping[SeriesId, list[StoredReading]]
    ) -> dict[Pair, Replay]:
        """Run all replays together and return their results. Wants come from `fresh` or else from one query a round."""
        results: dict[Pair, Replay] = {}
        answers: dict[Pair, Sequence[StoredReading] | None] = dict.fromkeys(replays)
        while answers:
            wants: dict[Pair, Want] = {}
            for pair, answer in answers.items():
                want = self._advance(pair, replays[pair], answer, fresh, results)
                if want is not None:
                    wants[pair] = want
            answers = await self._fetch_wanted(wants) if wants else {}
        return results

    def _advance(
        self,
        pair: Pair,
        replay: Replaying,
        answer: Sequence[StoredReading] | None,
        fresh: Mapping[SeriesId, list[StoredReading]],
        results: dict[Pair, Replay],
    ) -> Want | None:
        """Run one replay until it ends, or return the next want that needs a query."""
        state = self.states[pair]
        # The stored `evaluated_to` may be old; it is the newest if this process evaluated the pair or nobody did.
        is_newest = pair[1] not in self._dirty.late and (state.is_evaluated_here or state.written_us is None)
        new = fresh.get(pair[1], []) if is_newest else []
        evaluated_to = state.known.evaluated_to
        try:
            want = next(replay) if answer is None else replay.send(answer)
            while _is_covered(want, new, evaluated_to) and not state.is_backfill:
                found = [reading for reading in new if want.from_us is None or reading[0] >= want.from_us]
                want = replay.send(found[: want.limit])
        except StopIteration as end:
            results[pair] = end.value
            return None
        return want

    async def _fetch_wanted(self, wants: Mapping[Pair, Want]) -> dict[Pair, Sequence[StoredReading] | None]:
        pairs = list(wants)
        answers: dict[Pair, Sequence[StoredReading] | None] = {pair: [] for pair in pairs}
        for newest, query in ((False, "list_wanted_oldest"), (True, "list_wanted_newest")):
            rows = [
                (number, pair[1], _from_time(want), _to_time(want), want.limit)
                for number, (pair, want) in enumerate(wants.items())
                if want.newest is newest
            ]
            if not rows:
                continue
            columns = list(map(list, zip(*rows, strict=True)))
            bounds = min(row[2] for row in rows), max(row[3] for row in rows)
            found: defaultdict[int, list[StoredReading]] = defaultdict(list)
            for number, us, value in await self._connection.fetch(SQL[query], *columns, *bounds):
                found[number].append((us, value))
            answers.update((pairs[number], readings) for number, readings in found.items())
        return answers

    async def _write_states(self) -> None:
        """Store the states of replayed pairs at once, and of the others when their stored state becomes old."""
        rows = []
        for pair, state in self.states.items():
            known = state.known
            if state.is_due(pair[1]):
                rows.append((*pair, state.era, state.era_from, state.rule_hash, known.evaluated_to, state.cache()))
                state.written_us = known.evaluated_to
            state.is_evaluated_here, state.must_write, state.is_backfill = True, False, False
        if rows:
            rows.sort(key=itemgetter(1, 0))
            await self._connection.execute(SQL["upsert_states"], *map(list, zip(*rows, strict=True)))


def _span(ranges: Iterable[Range]) -> Range:
    firsts, lasts = zip(*ranges, strict=True)
    return min(firsts), max(lasts)


def _is_covered(want: Want, new: Sequence[StoredReading], evaluated_to: int | None) -> bool:
    """Return whether the new readings contain all wanted ones. All readings after `evaluated_to` are new."""
    if want.newest or want.to_us is not None or not new:
        return False
    return evaluated_to is None or (want.from_us is not None and want.from_us > evaluated_to)


def _from_time(want: Want) -> datetime:
    """Return the lower bound of a read. Every read of the hypertable is bounded by the retention of raw readings."""
    oldest = now_us() - (RAW_RETENTION.days + 1) * DAY_US
    return from_us(oldest if want.from_us is None else max(want.from_us, oldest))


def _to_time(want: Want) -> datetime:
    return from_us(now_us() + HOUR_US if want.to_us is None else want.to_us)
