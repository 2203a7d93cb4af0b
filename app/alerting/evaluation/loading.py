"""Loading of the states of series: at their first new readings, and after changes of rules or sensors."""

from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from app.alerting.evaluation.dirty import News
from app.alerting.evaluation.progress import EvaluationProgress, PairState
from app.alerting.evaluation.sql import SQL
from app.alerting.evaluation.timed.companions import TimedPairs
from app.alerting.evaluation.writing.stored_episodes import EvaluatedSeries, Pair, load_stored
from app.alerting.rules.matching import Match, RuleBook
from app.clock import now_us
from app.db.pool import Connection
from app.model import SeriesId

#: The rule hash in the stored state of a series that the rule no longer selects.
_UNSELECTED_HASH = ""


async def load_states(
    connection: Connection,
    book: RuleBook,
    rules_since: Mapping[str, int],
    progress: EvaluationProgress,
    news: Mapping[SeriesId, News],
) -> dict[Pair, EvaluatedSeries]:
    """Load the states of series with news where `progress` has none that is current; return pairs that match no longer.

    A state that this process has kept is newer than the stored one, and stays.
    """
    wanted = [series_id for series_id in news if series_id not in progress.series or series_id in progress.doubted]
    if not wanted:
        return {}
    series = await load_series(connection, wanted)
    rows = {(row["rule"], row["series_id"]): row for row in await connection.fetch(SQL["list_states"], wanted)}
    loading = _Loading(book, rules_since, rows, progress.timed)
    for each in series.values():
        loading.load(each, progress.series.get(each.id, ()), news[each.id])
    await loading.begin_backfills(connection)
    await loading.begin_eras(connection)
    progress.series.update(loading.loaded)
    progress.doubted.difference_update(wanted)
    selected = {(pair.match.rule.name, series_id) for series_id, pairs in loading.loaded.items() for pair in pairs}
    return {
        pair: series[pair[1]]
        for pair, row in rows.items()
        if pair not in selected and row["rule_hash"] != _UNSELECTED_HASH
    }


async def find_pairs_to_begin(
    connection: Connection,
    book: RuleBook,
    rules_since: Mapping[str, int],
    progress: EvaluationProgress,
    series_ids: Iterable[SeriesId],
) -> list[tuple[SeriesId, PairState]]:
    """Return the pairs of some series with newer rules that have not evaluated their stored readings yet.

    `progress` keeps the states of those series only from their next new readings on, because many series may never have
    any.
    """
    ids = list(series_ids)
    if not ids:
        return []
    unknown = [each for each in ids if each not in progress.series or each in progress.doubted]
    rows = {(row["rule"], row["series_id"]): row for row in await connection.fetch(SQL["list_states"], unknown)}
    loading = _Loading(book, rules_since, rows, progress.timed)
    for series in (await load_series(connection, unknown)).values():
        loading.load_beginning(series, progress.series.get(series.id, ()))
    await loading.begin_backfills(connection)
    await loading.begin_eras(connection)
    for series_id, states in loading.backfills.items():
        # A state that was kept although none is stored is that of a rule that was removed and added again.
        stale = {state.match.rule.name for state in states}
        if series_id in progress.series:
            kept = progress.series[series_id]
            progress.series[series_id] = tuple([state for state in kept if state.match.rule.name not in stale])
    known = {each: [state for state in progress.series[each] if state.is_beginning] for each in set(ids) - set(unknown)}
    found = {**loading.backfills, **known}
    return [(each, state) for each in ids for state in (*found.get(each, ()), *loading.changed.get(each, ()))]


async def load_series(connection: Connection, ids: Sequence[SeriesId]) -> dict[SeriesId, EvaluatedSeries]:
    """Load the fields by which rules select series."""
    return {row["id"]: EvaluatedSeries(**row) for row in await connection.fetch(SQL["list_series"], ids)}


class _Loading:
    """Makes the states of series from stored states and from those that this process has kept."""

    def __init__(
        self,
        book: RuleBook,
        rules_since: Mapping[str, int],
        rows: Mapping[Pair, asyncpg.Record],
        timed: TimedPairs,
    ) -> None:
        self.loaded: dict[SeriesId, tuple[PairState, ...]] = {}
        #: The pairs that begin a new era.
        self.changed: dict[SeriesId, list[PairState]] = {}
        #: The pairs whose rule is newer than the series, and that were never evaluated.
        self.backfills: dict[SeriesId, list[PairState]] = {}
        self._book = book
        self._rules_since = rules_since
        self._rows = rows
        self._timed = timed

    def load(self, series: EvaluatedSeries, kept: Iterable[PairState], news: News) -> None:
        """Make the state of one series."""
        kept_of = {state.match.rule.name: state for state in kept}
        self.loaded[series.id] = tuple(
            [self._pair(series, match, kept_of.get(match.rule.name), news) for match in self._matches(series)]
        )

    def load_beginning(self, series: EvaluatedSeries, kept: Iterable[PairState]) -> None:
        """Make only the states of the pairs of one series that begin: newer rules, and rules whose terms have changed.

        A rule that selects the series again begins with the next new reading.
        """
        kept_of = {state.match.rule.name: state for state in kept}
        for match in self._matches(series):
            row = self._rows.get((match.rule.name, series.id))
            if row is None:
                self._begin(series, match)
            elif row["rule_hash"] != _UNSELECTED_HASH:
                state = self._pair(series, match, kept_of.get(match.rule.name), News())
                if state.is_beginning and state not in self.changed.get(series.id, ()):
                    self.changed.setdefault(series.id, []).append(state)  # an evaluation before left it to this one

    def _matches(self, series: EvaluatedSeries) -> tuple[Match, ...]:
        if series.out_of_use is not None:
            return ()
        return self._book.matches(series.sensor, series.metric, series.tags, series.gateway)

    def _begin(self, series: EvaluatedSeries, match: Match) -> PairState:
        state = PairState.begin(match, companions=self._timed.companions(series.id, match.rule.name))
        if series.created_us < self._rules_since.get(match.rule.name, 0):
            self.backfills.setdefault(series.id, []).append(state)
        return state

    def _pair(self, series: EvaluatedSeries, match: Match, kept: PairState | None, news: News) -> PairState:
        name = match.rule.name
        row = self._rows.get((name, series.id))
        if row is None:  # also if the rule was removed and added again in between
            return self._begin(series, match)
        if kept is None or row["rule_hash"] == _UNSELECTED_HASH:
            state = PairState.of_row(row, match)
        else:
            state = kept
            state.match = match
        state.companions = self._timed.companions(series.id, name)
        if state.stored.rule_hash != state.rule_hash and (news.ranges or row["rule_hash"] != _UNSELECTED_HASH):
            state.begin_era(_start_of_era(state, news))
            self.changed.setdefault(series.id, []).append(state)
        return state

    async def begin_eras(self, connection: Connection) -> None:
        """Let the episodes that are open stay open in the new eras."""
        if not self.changed:
            return
        moved = [
            (state.match.rule.name, series_id, state.stored.era)
            for series_id, states in self.changed.items()
            for state in states
        ]
        await connection.execute(SQL["move_open_episodes"], *map(list, zip(*moved, strict=True)))
        stored = await load_stored(connection, sorted(self.changed), None)
        for series_id, states in self.changed.items():
            for state in states:
                for era, open_one in stored.get((state.match.rule.name, series_id), ()):
                    if era == state.stored.era:
                        state.stored.inherited = open_one.episode

    async def begin_backfills(self, connection: Connection) -> None:
        """Begin the eras of rules that are newer than their series `late_data.accept` before the newest reading."""
        if not self.backfills:
            return
        rows = await connection.fetch(SQL["list_newest_times"], sorted(self.backfills))
        newest = {row["series_id"]: row["us"] for row in rows}
        for series_id, states in self.backfills.items():
            for state in states:
                accept_us = state.match.terms.late_data.accept_us
                state.begin_backfill(newest.get(series_id, now_us()) - accept_us)


def _start_of_era(state: PairState, news: News) -> int | None:
    """Return the first time of a new era: the last evaluated reading, which is judged at once."""
    evaluated_to = state.stored.evaluated_to
    if state.stored.rule_hash != _UNSELECTED_HASH:
        return state.stored.era_from if evaluated_to is None else evaluated_to
    era_from = state.stored.era_from if evaluated_to is None else evaluated_to + 1
    # Readings from the time when the rule did not select the series do not belong to the new era.
    first = min(first for first, _ in news.ranges)
    # The newest reading belongs to it if it is evaluated again, as when a sensor is taken into use again.
    return first if first == evaluated_to else max(first, era_from or first)
