"""One evaluation: takes what flushes left in `dirty`, brings episodes up to date, and commits both together.

Its cost follows what is new, not what is stored: fresh readings are fetched together, most series are done with after
a comparison each, and the rest ask for the readings that their replay needs, all in one query a round.
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

#: Dirty rows taken at once; more wait for the next round.
ROWS_LIMIT = 500
#: (series, range) pairs after which no further dirty row is taken.
RANGES_LIMIT = 50_000
#: Stands for what the rule said of a series that it is not about any more.
_UNSELECTED_HASH = ""

Range = tuple[int, int]


class Taken(msgspec.Struct):
    """Dirty rows, merged by series."""

    ids: list[int] = []
    fresh: dict[SeriesId, list[Range]] = {}
    late: dict[SeriesId, list[Range]] = {}

    @property
    def series_ids(self) -> list[SeriesId]:
        """Every series with something new."""
        return sorted(self.fresh.keys() | self.late.keys())


class Evaluation(msgspec.Struct, frozen=True):
    """What one evaluation came to."""

    dirty_rows: int
    pairs: int
    replayed: int
    changes: list[Change]
    #: Of which something new came.
    series_ids: Sequence[SeriesId] = ()


async def evaluate(
    connection: Connection, book: RuleBook, rules_since: Mapping[str, int], progress: EvaluationProgress
) -> Evaluation:
    """Evaluate what is new; the caller's transaction commits it, or nothing of it: then progress must be forgotten."""
    await lock_evaluation(connection)
    progress.go_by(book)
    taken = await _take(connection)
    if not taken.ids:
        return Evaluation(0, 0, 0, [])
    series = await load_series(connection, taken.series_ids)
    pass_ = _Pass(connection, taken, series, book, rules_since, progress)
    changes = await pass_.run()
    await connection.execute(SQL["delete_dirty"], taken.ids)
    return Evaluation(len(taken.ids), len(pass_.states), pass_.replayed, changes, taken.series_ids)


async def load_series(connection: Connection, ids: Sequence[SeriesId]) -> dict[SeriesId, EvaluatedSeries]:
    """Load what rules look at; tags may have changed, so nothing is remembered."""
    return {row["id"]: EvaluatedSeries(**row) for row in await connection.fetch(SQL["list_series"], ids)}


async def _take(connection: Connection) -> Taken:
    taken = Taken([], defaultdict(list), defaultdict(list))
    ranges = 0
    for row in await connection.fetch(SQL["list_dirty"], ROWS_LIMIT):
        if taken.ids and ranges + len(row["series_ids"]) > RANGES_LIMIT:
            break
        taken.ids.append(row["id"])
        ranges += len(row["series_ids"])
        into = taken.late if row["late"] else taken.fresh
        for series_id, first, last in zip(row["series_ids"], row["from_us"], row["to_us"], strict=True):
            into[series_id].append((first, last))
    return taken


class _Pass:
    """One evaluation of many (rule, series) pairs."""

    def __init__(
        self,
        connection: Connection,
        taken: Taken,
        series: Mapping[SeriesId, EvaluatedSeries],
        book: RuleBook,
        rules_since: Mapping[str, int],
        progress: EvaluationProgress,
    ) -> None:
        self._connection = connection
        self._taken = taken
        self._series = series
        self._rules_since = rules_since
        self._progress = progress
        matches_of = {
            each.id: book.matches(each.sensor, each.metric, each.tags, each.gateway) for each in series.values()
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
        """Evaluate all pairs and write down what changed."""
        changes = Changes(self._connection, self._series, self._matches)
        gone = await self._load_states()
        await self._load_episodes()
        for pair, state in self.states.items():
            if state.rule_hash != self._matches[pair].rule_hash:
                await self._begin_era(pair, state)
        await self._begin([pair for pair in self._matches if pair not in self.states])
        fresh = await self._fetch_fresh()
        results = await self._replay(self._skip_quiet(fresh), fresh)
        for pair, result in sorted(results.items(), key=lambda item: (item[0][1], item[0][0])):
            state = self.states[pair]
            if list(result.episodes) != list(state.known.episodes):
                changes.revise(pair, state.era, state.stored, result.episodes, beginning=state.is_beginning)
            state.known = Known((), result.evaluated_to, state.era_from, result.memory)
        await changes.write()
        if gone:
            await changes.end_unselected(gone)
        await self._write_states()
        return changes.made

    async def _load_states(self) -> list[Pair]:
        """Find how far each pair has come, from memory or from what is stored; give pairs that are pairs no more."""
        known, rules_of = self._progress.states, self._progress.rules_of
        strange = [series_id for series_id, rules in self._rules_of.items() if rules_of.get(series_id) != rules]
        gone: list[Pair] = []
        rows = await self._connection.fetch(SQL["list_states"], strange) if strange else []
        written = {(row["rule"], row["series_id"]): row for row in rows}
        for series_id in strange:
            for rule in self._rules_of[series_id]:
                if (rule, series_id) not in written:
                    known.pop((rule, series_id), None)  # its rule was removed meanwhile, and came back
        for pair, row in written.items():
            if pair not in self._matches:
                known.pop(pair, None)
                if row["rule_hash"] != _UNSELECTED_HASH:
                    gone.append(pair)
            elif pair not in known:
                known[pair] = stored_state(row)
        rules_of.update(self._rules_of)
        self.states = {pair: known[pair] for pair in self._matches if pair in known}
        return gone

    async def _load_episodes(self) -> None:
        """Load the episodes that may change, in place of those of the last time."""
        stored = await load_stored(self._connection, self._taken.series_ids, self._oldest_revised())
        for pair, state in self.states.items():
            if state.stored or pair in stored:
                state.stored = [each for era, each in stored.get(pair, ()) if era == state.era]
                episodes = [each.episode for each in state.stored]
                state.known = msgspec.structs.replace(state.known, episodes=episodes)

    def _oldest_revised(self) -> int | None:
        """Give the earliest new time within what was evaluated before: episodes that ended since may change, too.

        Also a fresh reading may be out of order, be it by seconds.
        """
        evaluated_to: dict[SeriesId, int] = {}
        for (_, series_id), state in self.states.items():
            evaluated_to[series_id] = max(state.known.evaluated_to or 0, evaluated_to.get(series_id, 0))
        ranges = (
            (series_id, first)
            for taken in (self._taken.fresh, self._taken.late)
            for series_id, its_ranges in taken.items()
            for first, _ in its_ranges
        )
        return min((first for series_id, first in ranges if first <= evaluated_to.get(series_id, 0)), default=None)

    async def _begin_era(self, pair: Pair, state: PairState) -> None:
        """Start anew after the newest evaluated sample: clocks restart, an open episode stays open."""
        state.era += 1
        evaluated_to = state.known.evaluated_to
        state.era_from = None if evaluated_to is None else evaluated_to + 1
        if state.rule_hash == _UNSELECTED_HASH:
            # What came while the rule was not about the series is none of its.
            first = min((first for first, _ in self._ranges(pair, state)), default=now_us())
            state.era_from = max(first, state.era_from or first)
        state.rule_hash = self._matches[pair].rule_hash
        state.stored = [each for each in state.stored if each.episode.is_open]
        state.known = Known([each.episode for each in state.stored], evaluated_to, state.era_from)
        state.quiet_since, state.must_write = None, True
        await self._connection.execute(SQL["move_open_episode"], *pair, state.era)

    async def _begin(self, new: Sequence[Pair]) -> None:
        """Begin pairs that were never evaluated; a series older than its rule a while back only, all at once."""
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
            state.is_beginning = True

    async def _fetch_fresh(self) -> dict[SeriesId, list[StoredReading]]:
        """Fetch the readings of all fresh ranges that rules look at; what lies between two of a series comes along.

        Series whose ranges begin in the same minute share a query: one that is behind does not widen it for all.
        """
        spans: dict[SeriesId, Range] = {}
        together: defaultdict[int, list[SeriesId]] = defaultdict(list)
        for series_id, ranges in self._taken.fresh.items():
            if self._rules_of.get(series_id):
                first, last = spans[series_id] = _span(ranges)
                together[first // MINUTE_US].append(series_id)
        fresh: dict[SeriesId, list[StoredReading]] = {}
        for ids in together.values():
            bounds = _span([spans[series_id] for series_id in ids])
            for series_id, us, value in await self._connection.fetch(
                SQL["list_new_readings"], ids, *map(from_us, bounds)
            ):
                first, last = spans[series_id]
                if first <= us <= last:
                    fresh.setdefault(series_id, []).append((us, value))
        return fresh

    def _skip_quiet(self, fresh: Mapping[SeriesId, list[StoredReading]]) -> dict[Pair, Replaying]:
        """Be done with pairs in which nothing can have changed; give the others' replays."""
        asking: dict[Pair, Replaying] = {}
        for pair, state in self.states.items():
            rule = self._matches[pair].series_rule
            new = fresh.get(pair[1]) if pair[1] not in self._taken.late and not state.is_beginning else None
            memory = skip_quiet(rule, state, new) if new else None
            if memory is not None:
                state.known = Known(state.known.episodes, memory.evaluated_to, state.era_from, memory)
                continue
            asking[pair] = replaying(rule, state.known, self._ranges(pair, state))
            state.must_write = True
            if not new:
                state.quiet_since = None
        self.replayed = len(asking)
        return asking

    def _ranges(self, pair: Pair, state: PairState) -> list[Range]:
        """Give a pair's new ranges, without those so old that retention may take away what their replay needs."""
        ranges = [*self._taken.fresh.get(pair[1], ()), *self._taken.late.get(pair[1], ())]
        if state.is_beginning and state.era_from is not None:
            ranges.append((state.era_from, max(last for _, last in ranges)))
        if pair[1] not in self._taken.late:
            return ranges
        rule = self._matches[pair].series_rule
        edge = now_us() - RAW_RETENTION.days * DAY_US + rule.lookback_us + rule.value.window_us
        return [(max(first, edge), last) for first, last in ranges if last >= edge]

    async def _replay(
        self, asking: Mapping[Pair, Replaying], fresh: Mapping[SeriesId, list[StoredReading]]
    ) -> dict[Pair, Replay]:
        """Run all replays side by side, answering what they ask from what is at hand, else in one query a round."""
        results: dict[Pair, Replay] = {}
        answers: dict[Pair, Sequence[StoredReading] | None] = dict.fromkeys(asking)
        while answers:
            wants: dict[Pair, Want] = {}
            for pair, answer in answers.items():
                want = self._advance(pair, asking[pair], answer, fresh, results)
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
        """Step one replay until it is over or asks for what only the database has."""
        state = self.states[pair]
        # Only where this process evaluated the pair before is `evaluated_to` surely the newest.
        sure = pair[1] not in self._taken.late and (state.is_ours or state.written_us is None)
        at_hand = fresh.get(pair[1], []) if sure else []
        evaluated_to = state.known.evaluated_to
        try:
            want = next(replay) if answer is None else replay.send(answer)
            # Past what was evaluated there is nothing but what is new.
            while _is_at_hand(want, at_hand, evaluated_to) and not state.is_beginning:
                found = [reading for reading in at_hand if want.from_us is None or reading[0] >= want.from_us]
                want = replay.send(found[: want.limit])
        except StopIteration as end:
            results[pair] = end.value
            return None
        return want

    async def _fetch_wanted(self, wants: Mapping[Pair, Want]) -> dict[Pair, Sequence[StoredReading] | None]:
        pairs = list(wants)
        answers: dict[Pair, Sequence[StoredReading] | None] = {pair: [] for pair in pairs}
        for newest, query in ((False, "list_wanted_oldest"), (True, "list_wanted_newest")):
            asks = [
                (number, pair[1], _from_time(want), _to_time(want), want.limit)
                for number, (pair, want) in enumerate(wants.items())
                if want.newest is newest
            ]
            if not asks:
                continue
            columns = list(map(list, zip(*asks, strict=True)))
            bounds = min(ask[2] for ask in asks), max(ask[3] for ask in asks)
            found: defaultdict[int, list[StoredReading]] = defaultdict(list)
            for number, us, value in await self._connection.fetch(SQL[query], *columns, *bounds):
                found[number].append((us, value))
            answers.update((pairs[number], readings) for number, readings in found.items())
        return answers

    async def _write_states(self) -> None:
        """Write down how far pairs have come: those with news, and quiet ones by and by."""
        rows = []
        for pair, state in self.states.items():
            known = state.known
            if state.is_due(pair[1]):
                rows.append((*pair, state.era, state.era_from, state.rule_hash, known.evaluated_to, state.cache()))
                state.written_us = known.evaluated_to
            state.is_ours, state.must_write, state.is_beginning = True, False, False
        if rows:
            rows.sort(key=itemgetter(1, 0))
            await self._connection.execute(SQL["upsert_states"], *map(list, zip(*rows, strict=True)))


def _span(ranges: Iterable[Range]) -> Range:
    firsts, lasts = zip(*ranges, strict=True)
    return min(firsts), max(lasts)


def _is_at_hand(want: Want, at_hand: Sequence[StoredReading], evaluated_to: int | None) -> bool:
    """Tell whether the readings wanted are all among the new ones: nothing else lies past what was evaluated."""
    if want.newest or want.to_us is not None or not at_hand:
        return False
    return evaluated_to is None or (want.from_us is not None and want.from_us > evaluated_to)


def _from_time(want: Want) -> datetime:
    """Bound every read of the hypertable, however far back it may look."""
    oldest = now_us() - (RAW_RETENTION.days + 1) * DAY_US
    return from_us(oldest if want.from_us is None else max(want.from_us, oldest))


def _to_time(want: Want) -> datetime:
    return from_us(now_us() + HOUR_US if want.to_us is None else want.to_us)
