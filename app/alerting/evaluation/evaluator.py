"""Evaluation of the readings listed in `dirty`: updates the episodes and deletes the rows in the same transaction.

The cost grows with the new readings that can matter, not with the stored ones. For most pairs of rule and series the
summary of the new readings shows that no episode changes (`progress`). The others are replayed from readings that
`source` fetches for all of them together.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import msgspec

from app.alerting.episodes.revision import StoredEpisode
from app.alerting.evaluation.dirty import News, take_dirty
from app.alerting.evaluation.loading import find_pairs_to_begin, load_states
from app.alerting.evaluation.progress import EvaluationProgress, PairState
from app.alerting.evaluation.source import ReadingSource, ReplayTask
from app.alerting.evaluation.sql import SQL
from app.alerting.evaluation.writing.stored_episodes import Change, Changes, Pair, load_stored
from app.alerting.rules.matching import RuleBook
from app.clock import DAY_US, now_us
from app.db.aggregates import RAW_RETENTION
from app.db.pool import Connection
from app.db.rights.locks import lock_evaluation
from app.model import SeriesId
from app.summaries import Summary

#: Replays begin until this many readings were fetched; the others are left to the next evaluation. A quarter of it is
#: kept for series with late readings, and as many more are fetched for rules that begin.
FETCH_LIMIT = 200_000
#: Number of series that one evaluation begins with rules that are newer than the series.
BEGIN_SERIES = 500
_NO_NEWS = News()
Pairs = list[tuple[SeriesId, PairState]]
#: Series of timed rules to look at → the news of their companions.
TimedNews = Mapping[SeriesId, Mapping[SeriesId, Sequence[Summary]]]


class Evaluation(msgspec.Struct, frozen=True):
    """The result of one evaluation."""

    dirty_rows: int
    pairs: int
    replayed: int
    changes: list[Change]
    #: Series with new readings.
    series_ids: Sequence[SeriesId] = ()
    news: Mapping[SeriesId, News] = MappingProxyType({})
    #: Whether newer rules still have to evaluate readings that were stored before them.
    rules_begin: bool = False


async def evaluate(
    connection: Connection, book: RuleBook, rules_since: Mapping[str, int], progress: EvaluationProgress
) -> Evaluation:
    """Evaluate the oldest dirty rows in the caller's transaction. If it is rolled back, call `progress.forget`.

    A rule that is newer than a series, or has other terms than before, begins with the stored readings, whether or
    not the series has new ones.
    """
    await lock_evaluation(connection)
    progress.use_rules(book)
    now_us: int = await connection.fetchval(SQL["read_evaluation_clock"])
    taken = await take_dirty(connection, progress.late, now_us)
    sensors_changed = await _take_sensor_changes(connection, progress)
    if progress.must_find_older:
        await _find_older_series(connection, book, rules_since, progress)
    timed = await _look_at_timed_pairs(connection, book, progress, taken.news, now_us, sensors_changed=sensors_changed)
    if not taken.rows and not progress.to_begin and not timed:
        return Evaluation(0, 0, 0, [])
    loading = {**dict.fromkeys(timed, _NO_NEWS), **taken.news}
    unselected = await load_states(connection, book, rules_since, progress, loading)
    pass_ = _Pass(connection, progress, taken.news, taken.until_us, timed)
    changes = Changes(connection)
    fresh, late = pass_.skip()
    looked_at = list(islice(progress.to_begin, BEGIN_SERIES))
    beginning = await find_pairs_to_begin(connection, book, rules_since, progress, looked_at)
    await pass_.replay(fresh, late, beginning, changes)
    progress.end_beginning(looked_at, pass_.left_to_begin)
    if unselected:
        await changes.end_unselected(unselected)
    await pass_.write_states()
    await taken.finish(connection, pass_.put_back)
    if taken.rows:
        await connection.execute(SQL["note_evaluation_clock"], now_us)
    return Evaluation(
        len(taken.rows),
        pass_.pairs,
        pass_.replayed,
        changes.made,
        list(taken.news),
        taken.news,
        bool(progress.to_begin),
    )


async def _take_sensor_changes(connection: Connection, progress: EvaluationProgress) -> bool:
    """Note the series of changed sensors, whose rules this evaluation matches again; return whether there are any."""
    changed = [row["id"] for row in await connection.fetch(SQL["take_sensor_changes"])]
    progress.doubted.update(changed)
    progress.to_begin.update(dict.fromkeys(changed))
    return bool(changed)


async def _look_at_timed_pairs(
    connection: Connection,
    book: RuleBook,
    progress: EvaluationProgress,
    news: Mapping[SeriesId, News],
    now_us: int,
    *,
    sensors_changed: bool,
) -> TimedNews:
    """Return what timed rules look at besides the series with news; see TimedPairs."""
    timed = progress.timed
    changed = await timed.find(connection, book, news, changed=sensors_changed)
    progress.doubted.update(changed)
    progress.to_begin.update(dict.fromkeys(changed))
    if timed.problems != timed.stored_problems:
        await connection.execute(SQL["put_companion_warnings"], timed.problems)
        timed.stored_problems = timed.problems
    if not book.has_timed:
        return {}
    await timed.horizons.read(connection, now_us)
    return timed.look(news)


async def _find_older_series(
    connection: Connection, book: RuleBook, rules_since: Mapping[str, int], progress: EvaluationProgress
) -> None:
    """Note the series that are older than the newest rule, or for which the terms of a rule have changed.

    Each evaluation begins some of them. After a change of the rules, these are all series that were ever evaluated.
    """
    newest = max(rules_since.values(), default=0)
    rows = [*await connection.fetch(SQL["list_older_series"], newest)]
    if progress.rules_changed:
        rows += await connection.fetch(SQL["list_evaluated_series"])
    else:
        rows += await connection.fetch(SQL["list_changed_series"], *map(list, zip(*book.hashes(), strict=True)))
    progress.to_begin.update(dict.fromkeys(row["id"] for row in rows))
    progress.must_find_older = progress.rules_changed = False


class _Pass:
    """One evaluation of the pairs of all series with new readings."""

    def __init__(
        self,
        connection: Connection,
        progress: EvaluationProgress,
        news: Mapping[SeriesId, News],
        until_us: int,
        timed: TimedNews,
    ) -> None:
        self._connection = connection
        #: Later readings do not count yet.
        self._until_us = until_us
        self._progress = progress
        self._news = news
        self._timed = timed
        #: (series, rule) → the ranges of a timed rule in which companions have changed or held samples have come due.
        self._timed_ranges: dict[tuple[SeriesId, str], list[tuple[int, int]]] = {}
        self._due: list[tuple[SeriesId, PairState]] = []
        #: Series whose replays are left to the next evaluation.
        self.put_back: set[SeriesId] = set()
        #: Series of which a rule that begins is left to the next evaluation.
        self.left_to_begin: set[SeriesId] = set()
        self.pairs = 0
        self.replayed = 0

    async def replay(self, fresh: Pairs, late: Pairs, beginning: Pairs, changes: Changes) -> None:
        """Replay pairs of series with fresh and with late readings, and of rules that begin; store the changes."""
        waiting = [*fresh, *late]
        replayed = {id(state) for _, state in waiting}
        beginning = [each for each in beginning if id(each[1]) not in replayed]
        if not waiting and not beginning:
            return
        stored = await load_stored(
            self._connection,
            sorted({series_id for series_id, _ in (*waiting, *beginning)}),
            self._oldest_revised([*waiting, *beginning]),
        )
        source = ReadingSource(self._connection, self._until_us)
        tasks = await source.run(self._tasks(fresh, stored), FETCH_LIMIT * 3 // 4)
        tasks_of_late = await source.run(self._tasks(late, stored), max(FETCH_LIMIT, source.fetched + FETCH_LIMIT // 4))
        begun = await source.run(self._tasks(beginning, stored), source.fetched + FETCH_LIMIT // 4)
        self.put_back = {
            each
            for series_id, _ in (*fresh[len(tasks) :], *late[len(tasks_of_late) :])
            for each in (series_id, *self._timed.get(series_id, ()))
        }
        self.left_to_begin = {series_id for series_id, _ in beginning[len(begun) :]}
        tasks += tasks_of_late
        self.replayed = len(tasks) + len(begun)
        for task in sorted([*tasks, *begun], key=lambda task: (task.series_id, task.state.match.rule.name)):
            self._take(task, stored, changes)
        await source.complete_extremes(tasks)
        await changes.write()

    async def write_states(self) -> None:
        """Store the states that are due."""
        rows: list[tuple[Any, ...]] = []
        for series_id, state in self._due:
            stored = state.stored
            key = state.match.rule.name, series_id
            rows.append((*key, *state.columns()))
            state.written_us, state.must_write = stored.evaluated_to, False
        if rows:
            rows.sort(key=itemgetter(1, 0))
            await self._connection.execute(SQL["upsert_states"], *map(list, zip(*rows, strict=True)))

    def skip(self) -> tuple[Pairs, Pairs]:
        """Evaluate pairs by the shortcut; return those to replay: of series with fresh readings, and with late ones."""
        fresh: Pairs = []
        late: Pairs = []
        series = self._progress.series
        for series_id, news in self._news.items():
            if series_id not in series:
                continue  # its sensor was deleted for good
            parts = news.parts
            # Late readings, too, mostly follow the evaluated ones, as after a gateway was away. If another late row of
            # the series waits, these readings include no fresh ones.
            total = reduce(Summary.join, parts)
            for state in series[series_id]:
                self.pairs += 1
                if state.is_backfill:  # it will evaluate these readings with all others that are stored
                    self._progress.to_begin[series_id] = None
                    continue
                for part in parts:
                    state.add(part)
                if state.is_timed and self._has_timed_ranges(series_id, state):
                    (late if news.late else fresh).append((series_id, state))
                    continue
                if not news.is_cut and state.skip(total):
                    if state.is_due(series_id):
                        self._due.append((series_id, state))
                    continue
                (late if news.late or state.is_beginning else fresh).append((series_id, state))
        for series_id in self._timed.keys() - self._news.keys():
            timed = [state for state in series.get(series_id, ()) if state.is_timed and not state.is_backfill]
            fresh += [(series_id, state) for state in timed if self._has_timed_ranges(series_id, state)]
            self._note_due(series_id)
        return fresh, late

    def _has_timed_ranges(self, series_id: SeriesId, state: PairState) -> bool:
        """Note the ranges in which companions have changed or held samples have come due; return whether any are."""
        if state.stored.evaluated_to is None or (not self._timed.get(series_id) and state.stored.next_due is None):
            return False
        horizon_us = self._progress.timed.horizon_us(series_id, state.match)
        ranges = state.timed_ranges(self._timed.get(series_id, {}), horizon_us)
        if ranges:
            self._timed_ranges[series_id, state.match.rule.name] = ranges
        return bool(ranges)

    def _note_due(self, series_id: SeriesId) -> None:
        states = self._progress.series.get(series_id, ())
        self._progress.timed.note_due(series_id, [(each.match, each.stored.next_due) for each in states])

    def _tasks(self, pairs: Pairs, stored: Mapping[Pair, list[tuple[int, StoredEpisode]]]) -> Iterator[ReplayTask]:
        for series_id, state in pairs:
            news = self._news.get(series_id, _NO_NEWS)
            episodes = _of_era(stored, state.match.rule.name, series_id, state)
            horizon_us = self._progress.timed.horizon_us(series_id, state.match) if state.is_timed else 0
            ranges = self._ranges(series_id, state)
            yield ReplayTask.begin(series_id, state, news, ranges, episodes, horizon_us=horizon_us)

    def _ranges(self, series_id: SeriesId, state: PairState) -> list[tuple[int, int]]:
        """Return the new ranges of a pair, cut where retention may delete readings that their replay needs."""
        news = self._news.get(series_id, _NO_NEWS)
        ranges = state.ranges(news, self._timed_ranges.get((series_id, state.match.rule.name), ()))
        if not news.late and not state.is_timed:
            return ranges
        rule = state.match.series_rule
        reach_us = rule.lookback_us + rule.value.window_us + rule.held_us + rule.max_age_us
        edge = now_us() - RAW_RETENTION.days * DAY_US + reach_us
        return [(max(first, edge), last) for first, last in ranges if last >= edge]

    def _take(self, task: ReplayTask, stored: Mapping[Pair, list[tuple[int, StoredEpisode]]], changes: Changes) -> None:
        state, result = task.state, task.result
        assert result is not None  # noqa: S101 -- the task has ended
        pair = state.match.rule.name, task.series_id
        before = _of_era(stored, *pair, state)
        changed = list(result.episodes) != [each.episode for each in before]
        if changed:
            changes.revise(pair, state.match, state.stored.era, before, result.episodes, is_backfill=state.is_backfill)
        state.take(result, changed=changed, horizon_us=task.horizon_us)
        if state.is_timed:
            self._note_due(task.series_id)
        if state.is_due(task.series_id):
            self._due.append((task.series_id, state))

    def _oldest_revised(self, waiting: Pairs) -> int | None:
        """Return the earliest new time that is not after its pair's last evaluated reading, or None.

        Episodes that ended at or after that time may change. A fresh reading may also be out of order by some seconds.
        """
        return min(
            (
                first
                for series_id, state in waiting
                for first, _ in state.ranges(
                    self._news.get(series_id, _NO_NEWS),
                    self._timed_ranges.get((series_id, state.match.rule.name), ()),
                )
                if state.is_timed or first <= (state.stored.evaluated_to or 0)
            ),
            default=None,
        )


def _of_era(
    stored: Mapping[Pair, list[tuple[int, StoredEpisode]]], rule: str, series_id: SeriesId, state: PairState
) -> list[StoredEpisode]:
    """Return the stored episodes of the current era, which may have begun in an earlier one only if they are open."""
    return [each for era, each in stored.get((rule, series_id), ()) if era == state.stored.era]
